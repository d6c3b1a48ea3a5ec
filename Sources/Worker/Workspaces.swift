import Glibc
import JobletModel
import LinuxKernel

/// `filesystem.baseDir`: `<id>/work` of every job. `<id>` is root's alone (0700), for a job may leave set-user-ID files in
/// its `work`, which nobody on the host must reach.
///
/// A workspace that is kept after its job has its due time as the modification time of `<id>`, which no job can touch; so a
/// restart forgets nothing, and what a crash left behind is due at once.
package struct Workspaces: Sendable {
  let path: String

  package init(path: String) { self.path = path }

  func make(_ job: JobID, uid: uid_t, gid: gid_t) throws(Errno) {
    let outer = "\(path)/\(job)"
    let inner = "\(outer)/work"
    try Kernel.call("mkdir", outer) { mkdir(outer, 0o700) }
    try Kernel.call("mkdir", inner) { mkdir(inner, 0o755) }
    try Kernel.call("chown", inner) { chown(inner, uid, gid) }
  }

  /// Removes a job's workspace, or marks it to go after `keep`. An empty one goes at once: there is nothing to look at.
  func remove(_ job: JobID, after keep: Duration) throws(Errno) {
    let outer = "\(path)/\(job)"
    if keep > .zero, rmdir("\(outer)/work") != 0, errno == ENOTEMPTY {
      let due = time(nil) + Int(keep.components.seconds)
      let times = [timespec(tv_sec: due, tv_nsec: 0), timespec(tv_sec: due, tv_nsec: 0)]
      try Kernel.call("utimensat", outer) { utimensat(AT_FDCWD, outer, times, AT_SYMLINK_NOFOLLOW) }
      return
    }
    try TreeRemover.remove("\(job)", in: path)
  }

  /// The workspaces that were due before `moment` (Unix seconds).
  func due(before moment: Int) throws(Errno) -> [JobID] {
    try JobStateDirectory.jobs(root: path).filter { job in
      var info = stat()
      return lstat("\(path)/\(job)", &info) == 0 && info.st_mtim.tv_sec < moment
    }
  }
}
