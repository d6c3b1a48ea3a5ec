import CSystemd
import Glibc

/// What a daemon tells the service manager (sd_notify(3)). Every call is harmless without one.
public struct ServiceManager: Sendable {
  public init() {}

  /// The daemon serves: `READY=1`, with the sentence `systemctl status` shows. Also ends a reload.
  public func ready(_ status: String) {
    send("READY=1\nSTATUS=\(ServiceManager.oneLine(status))")
    ProgramText.releaseOnce()
  }

  /// The sentence `systemctl status` shows: what the daemon does now, for a person.
  public func status(_ status: String) { send("STATUS=\(ServiceManager.oneLine(status))") }

  /// The daemon has begun to stop: `STOPPING=1`.
  public func stopping(_ status: String = "draining") { send("STOPPING=1\nSTATUS=\(ServiceManager.oneLine(status))") }

  /// The daemon reads its configuration again: `RELOADING=1`; ``ready(_:)`` ends it.
  public func reloading() {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    let microseconds = Int64(time.tv_sec) * 1_000_000 + Int64(time.tv_nsec) / 1000
    send("RELOADING=1\nMONOTONIC_USEC=\(microseconds)\nSTATUS=reloading")
  }

  func send(_ state: String) {
    // A service manager that can't be reached is its own trouble: it will see the missing READY or watchdog message.
    _ = sd_notify(0, state)
  }

  private static func oneLine(_ text: String) -> String {
    String(text.map { $0.isNewline ? " " : $0 })
  }
}
