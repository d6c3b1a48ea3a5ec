import CLinux
import Glibc

/// A namespace of some process, held open: it stays while this value does (namespaces(7)).
public struct Namespace: ~Copyable, Sendable {
  public let descriptor: FileDescriptor

  public enum Kind: String, Sendable {
    case mount = "mnt"
    case hostName = "uts"
  }

  /// - Throws: `ENOENT` if the process is gone.
  public static func open(_ kind: Kind, of pid: pid_t) throws(Errno) -> Namespace {
    Namespace(descriptor: try .open("/proc/\(pid)/ns/\(kind.rawValue)", O_RDONLY))
  }

  /// Sets the host name in this namespace, which is another's (setns(2), sethostname(2)). The calling thread visits it for two
  /// system calls; any thread will do.
  /// - Parameters:
  ///   - name: at most 64 bytes.
  ///   - own: the caller's uts namespace.
  public borrowing func setHostName(_ name: String, from own: borrowing Namespace) throws(Errno) {
    var name = name
    let (here, there) = (own.descriptor.raw, descriptor.raw)
    let result = name.withUTF8 { bytes in
      bytes.withMemoryRebound(to: CChar.self) { cl_set_hostname(here, there, $0.baseAddress, $0.count) }
    }
    try Kernel.check("sethostname", name, result)
  }
}
