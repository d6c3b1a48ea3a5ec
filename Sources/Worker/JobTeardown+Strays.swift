import Cgroups
import Glibc
import LinuxKernel

extension JobTeardown {
  /// Kills all that lives in some cgroups, and waits for its end: for all of them together at most ``timeout``. Blocks.
  /// - Parameter names: of the cgroups.
  /// - Returns: those in which something may live on, each with the reason.
  func end(cgroups names: [String]) -> [String: String] {
    var left: [String: String] = [:]
    // All of them first: they end at the same time.
    for name in names {
      do { try kill(cgroup: name) } catch { left[name] = "\(error)" }
    }
    let deadline = ContinuousClock.now + timeout
    for name in names where left[name] == nil {
      do {
        if try !isEmpty(name, by: deadline) { left[name] = "its processes do not end" }
      } catch { left[name] = "\(error)" }
    }
    return left
  }

  private func isEmpty(_ name: String, by deadline: ContinuousClock.Instant) throws(Errno) -> Bool {
    let directory = JobCgroup(root: cgroups, name: name).directory
    var pause: UInt32 = 500
    do {
      while try directory.isPopulated() {
        guard ContinuousClock.now < deadline else { return false }
        usleep(pause)
        pause = min(pause * 2, 50_000)
      }
    } catch {
      // It is gone: before its file was opened, or after.
      guard error.code == ENOENT || error.code == ENODEV else { throw error }
    }
    return true
  }
}
