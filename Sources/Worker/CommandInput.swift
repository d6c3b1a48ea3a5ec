import FoundationEssentials
import Glibc
import JobletConfig
import LinuxKernel

/// What the commands of joblet-exec that are no daemon read.
public enum CommandInput {
  /// A file, or the standard input for `-`.
  /// - Throws: ``SetupError`` for more than `limit` bytes; an `Errno`.
  public static func read(_ path: String, limit: Int) throws -> [UInt8] {
    let file =
      path == "-"
      ? FileDescriptor(owning: try Kernel.call("fcntl", "standard input") { fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3) })
      : try FileDescriptor.open(path, O_RDONLY)
    // One more than is allowed tells a file of just that size from a longer one.
    let bytes = try file.readAll(limit: limit + 1)
    guard bytes.count <= limit else {
      throw SetupError(description: "\(path) is over \(limit) bytes, which is the limit")
    }
    return bytes
  }

  /// This node's configuration; where none was named and none is installed, the defaults.
  public static func configuration(_ path: String?) throws -> Configuration {
    let environment = ProcessInfo.processInfo.environment
    let isNamed = path != nil || environment["JOBLET_CONFIG_PATH"].map { !$0.isEmpty } ?? false
    let installed = [Configuration.installedPath, Configuration.alternativePath]
    if !isNamed, !installed.contains(where: { access($0, F_OK) == 0 }) { return Configuration() }
    return try Configuration.load(path: path, environment: environment)
  }
}
