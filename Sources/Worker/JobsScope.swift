import Cgroups
import Glibc
import LinuxKernel
import Logging

/// `joblet-jobs.scope`: where jobs live under systemd, so that they outlive exec. A delegated service with live children can
/// not be started again by systemd 252 (219/CGROUP), a scope of its own can stay while exec comes and goes.
struct JobsScope {
  static let unit = "joblet-jobs.scope"
  static let slice = "joblet.slice"
  static let path = "/sys/fs/cgroup/\(slice)/\(unit)"

  struct Failure: Error, CustomStringConvertible {
    var description: String
  }

  /// Makes the scope if it is absent. A holder process in a leaf of its own keeps it alive when no job runs: a scope without
  /// processes is removed. Blocks for some hundred milliseconds the first time.
  static func ensure(logger: Logger) throws {
    let scope = CgroupDirectory(path: path)
    let bounds = try JobsBounds.host()
    if scope.exists, try scope.isPopulated() {
      try settleHolder(scope)
      try hold(bounds, scope)
      return
    }
    let pid = try startHolder(bounds)
    let deadline = ContinuousClock.now + .seconds(10)
    while true {
      if scope.exists, try scope.isPopulated() { break }
      var status: CInt = 0
      if waitpid(pid, &status, WNOHANG) == pid {
        throw Failure(
          description:
            "systemd-run could not start \(unit) (wait status \(status)); 'journalctl -u \(unit)' and 'systemctl status \(unit)' say more"
        )
      }
      guard ContinuousClock.now < deadline else {
        throw Failure(
          description: "\(unit) did not appear at \(path) within 10 s; is cgroup v2 mounted at /sys/fs/cgroup?")
      }
      usleep(20_000)
    }
    try settleHolder(scope)
    logger.info("made the scope that jobs live in", metadata: ["scope": "\(path)"])
  }

  /// Holds the bounds of all jobs together, for a scope that was made when they were others. Through systemd, for what it
  /// does not know of it would take back; blocks for some ten milliseconds where something changes.
  private static func hold(_ bounds: JobsBounds, _ scope: CgroupDirectory) throws {
    func isHeld(_ file: String, _ value: Int64) throws(Errno) -> Bool {
      do { return try scope.read(file) == "\(value)" } catch  where error.code == ENOENT {
        return true  // no such controller, and no job's limit either: the start has said so
      }
    }
    if try isHeld("pids.max", bounds.processes), try isHeld("memory.max", bounds.memory) { return }
    let pid = try spawn(["/usr/bin/systemctl", "set-property", "--runtime", unit] + bounds.properties)
    var status: CInt = 0
    try Kernel.call("waitpid", "systemctl") { waitpid(pid, &status, 0) }
    guard status == 0 else {
      throw Failure(
        description:
          "'systemctl set-property --runtime \(unit) \(bounds.properties.joined(separator: " "))' failed (wait status \(status)), so nothing would bound the jobs' memory; 'journalctl -u \(unit)' may say more"
      )
    }
  }

  /// Moves the processes of the scope's own directory into the leaf `holder`: cgroup v2 gives controllers only to the
  /// children of a directory that holds no process.
  private static func settleHolder(_ scope: CgroupDirectory) throws {
    let leaf = scope.child("holder")
    if !leaf.exists { try leaf.create() }
    for pid in try scope.processes() {
      do {
        try leaf.write("\(pid)", to: "cgroup.procs")
      } catch {
        // One that ended meanwhile is where it should be. Whoever is still there, and could not be moved, is a failure.
        if try scope.processes().contains(pid) { throw error }
      }
    }
  }

  /// systemd-run makes the scope and becomes the holder. It runs once in a boot, never on a job's start path.
  private static func startHolder(_ bounds: JobsBounds) throws -> pid_t {
    try spawn(
      [
        "/usr/bin/systemd-run", "--quiet", "--scope", "--collect", "--unit=\(unit)", "--slice=\(slice)",
        "--property=Delegate=yes",
      ] + bounds.properties.map { "--property=\($0)" } + [
        "--description=Jobs of Joblet; they outlive joblet-exec", "/bin/sleep", "infinity",
      ])
  }

  private static func spawn(_ arguments: [String]) throws -> pid_t {
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    defer { posix_spawn_file_actions_destroy(&actions) }
    for fd: CInt in 0...2 {
      posix_spawn_file_actions_addopen(&actions, fd, "/dev/null", O_RDWR, 0)
    }
    var attributes = posix_spawnattr_t()
    posix_spawnattr_init(&attributes)
    defer { posix_spawnattr_destroy(&attributes) }
    var none = sigset_t()
    sigemptyset(&none)
    posix_spawnattr_setsigmask(&attributes, &none)
    // A session of its own: nothing sent to exec's reaches the holder.
    posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETSIGMASK) | Int16(0x80))
    var argv: [UnsafeMutablePointer<CChar>?] = arguments.map { strdup($0) } + [nil]
    // exec's own environment names sockets that are not the holder's business.
    var environment: [UnsafeMutablePointer<CChar>?] = [strdup("PATH=/usr/sbin:/usr/bin:/sbin:/bin"), nil]
    defer { for pointer in argv + environment { free(pointer) } }
    var pid = pid_t()
    let code = posix_spawn(&pid, arguments[0], &actions, &attributes, &argv, &environment)
    guard code == 0 else { throw Errno(code, "posix_spawn", arguments[0]) }
    return pid
  }
}
