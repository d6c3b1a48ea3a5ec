import CLinux
import Glibc

/// How a process ended.
public enum ExitStatus: Hashable, Sendable {
  case exited(code: CInt)
  case signaled(CInt)
}

/// A handle on one process that can never mean another one (pidfd_open(2)). Readable (`poll`) once the process has ended.
public struct ProcessHandle: ~Copyable, Sendable {
  public let pid: pid_t
  public let descriptor: FileDescriptor

  public init(pid: pid_t, descriptor: consuming FileDescriptor) {
    self.pid = pid
    self.descriptor = descriptor
  }

  /// Opens a handle on a process that is there. A PID may have been reused since it was written down: compare
  /// ``startTime()`` with what was stored before trusting it.
  /// - Throws: `ESRCH` if there is no such process.
  public static func open(pid: pid_t) throws(Errno) -> ProcessHandle {
    let raw = try Kernel.check("pidfd_open", "\(pid)", cl_pidfd_open(pid))
    return ProcessHandle(pid: pid, descriptor: FileDescriptor(owning: raw))
  }

  /// pidfd_send_signal(2). - Throws: `ESRCH` if it has ended.
  public borrowing func send(signal: CInt) throws(Errno) {
    try Kernel.check("pidfd_send_signal", "\(pid)", cl_pidfd_send_signal(descriptor.raw, signal))
  }

  /// Reaps the process if it has ended. Nil while it runs.
  /// - Throws: `ECHILD` if it is not our child, as after a restart of exec.
  public borrowing func reap() throws(Errno) -> ExitStatus? { try wait(WNOHANG) }

  /// Waits until it ends, and reaps it. Blocks the thread.
  public borrowing func wait() throws(Errno) -> ExitStatus {
    while true { if let status = try wait(0) { return status } }
  }

  private borrowing func wait(_ flags: CInt) throws(Errno) -> ExitStatus? {
    var code: CInt = 0
    var status: CInt = 0
    guard try Kernel.check("waitid", "\(pid)", cl_wait_pidfd(descriptor.raw, flags, &code, &status)) == 1 else {
      return nil
    }
    return code == CInt(CLD_EXITED) ? .exited(code: status) : .signaled(status)
  }

  /// True while it has not ended. Works for processes that are not our children.
  public borrowing func isAlive() throws(Errno) -> Bool {
    var entry = pollfd(fd: descriptor.raw, events: Int16(POLLIN), revents: 0)
    return try Kernel.call("poll", "\(pid)") { poll(&entry, 1, 0) } == 0
  }

  /// When it started, in clock ticks since boot (proc_pid_stat(5), field 22): together with the PID it names one process.
  public borrowing func startTime() throws(Errno) -> UInt64 {
    let path = "/proc/\(pid)/stat"
    let text = String(decoding: try FileDescriptor.open(path, O_RDONLY).readAll(), as: UTF8.self)
    // The second field is the program's name in parentheses and may hold anything, so count from the last ')'.
    guard let end = text.lastIndex(of: ")") else { throw Errno(EINVAL, "read", path) }
    let fields = text[end...].split(separator: " ")
    guard fields.count > 20, let ticks = UInt64(fields[20]) else { throw Errno(EINVAL, "read", path) }
    return ticks
  }
}
