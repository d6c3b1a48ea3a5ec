/// A running job's cgroup on the host, found by its PID 1: what the directory is called is exec's own business.
enum JobCgroup {
  /// The job's directory, above `init` and `pay`.
  static func directory(of job: String) async throws -> String {
    try await Shell.must(
      """
      set -e
      pid=$(sed -n 's/.*"pid": *\\([0-9]*\\).*/\\1/p' \(Installed.runState)/\(job)/launch)
      dirname /sys/fs/cgroup$(sed -n 's/^0:://p' /proc/$pid/cgroup)
      """)
  }

  /// Where the payload's limits are, and its processes.
  static func payload(of job: String) async throws -> String { try await directory(of: job) + "/pay" }
}
