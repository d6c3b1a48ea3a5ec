import FoundationEssentials
import Glibc
import JobletConfig
import JobletModel
import LinuxKernel
import Testing
import Worker

@Suite struct WorkspaceTests {
  private final class Folder {
    let path: String
    init() {
      var template = Array("/tmp/joblet-workspaces.XXXXXX".utf8CString)
      path = template.withUnsafeMutableBufferPointer { String(cString: mkdtemp($0.baseAddress!)) }
    }
    deinit {
      do { try TreeRemover.remove(String(path.dropFirst("/tmp/".count)), in: "/tmp") } catch { Issue.record(error) }
    }
    var names: [String] { (try? FileManager.default.contentsOfDirectory(atPath: path).sorted()) ?? [] }
  }

  private func mode(_ path: String) -> mode_t {
    var info = stat()
    return lstat(path, &info) == 0 ? info.st_mode & 0o7777 : 0
  }

  @Test func oneMadeAheadBecomesAJobs() throws {
    let folder = Folder()
    let workspaces = Workspaces(path: folder.path)
    let job = JobID(node: 1)
    try workspaces.make("slot-1", uid: getuid(), gid: getgid())
    #expect(mode("\(folder.path)/slot-1") == 0o700)
    #expect(try workspaces.due(before: .max).isEmpty)  // a slot is no job's
    try workspaces.rename("slot-1", to: job)
    #expect(folder.names == ["\(job)"])
    #expect(mode("\(folder.path)/\(job)/work") == 0o755)
    #expect(try workspaces.due(before: .max) == [job])
    try workspaces.remove(job, after: .zero)
    #expect(folder.names.isEmpty)
    try workspaces.remove(job, after: .zero)  // once more is no error
  }

  @Test func oneThatIsKeptIsDueLater() throws {
    let folder = Folder()
    let workspaces = Workspaces(path: folder.path)
    let jobs = [JobID(node: 1), JobID(node: 1)]
    for job in jobs { try workspaces.make(job, uid: getuid(), gid: getgid()) }
    #expect(mkdir("\(folder.path)/\(jobs[1])/work/left", 0o755) == 0)
    for job in jobs { try workspaces.remove(job, after: .seconds(1000)) }
    #expect(folder.names == ["\(jobs[1])"])  // the empty one is not worth keeping
    #expect(try workspaces.due(before: time(nil) + 900).isEmpty)
    #expect(try workspaces.due(before: time(nil) + 1100) == [jobs[1]])
  }

  /// A teardown, an owner who deletes twice and the sweep may all mean one workspace.
  @Test func removalsOfOneNameDoNotMeet() async throws {
    let folder = Folder()
    let workspaces = Workspaces(path: folder.path)
    let queue = try WorkQueue(name: "remove", threads: 4)
    let neighbour = JobID(node: 1)
    try workspaces.make(neighbour, uid: getuid(), gid: getgid())
    #expect(mkdir("\(folder.path)/\(neighbour)/work/precious", 0o755) == 0)
    for _ in 0..<20 {
      let job = JobID(node: 1)
      try workspaces.make(job, uid: getuid(), gid: getgid())
      var path = "\(folder.path)/\(job)/work"
      for _ in 0..<100 {
        for name in ["d", "e"] { #expect(mkdir("\(path)/\(name)", 0o755) == 0) }
        path += "/d"
      }
      // None fails: that would be one that met another.
      let removed = try await withThrowingTaskGroup(of: Bool.self) { group in
        for _ in 0..<8 {
          group.addTask { try await queue.run { try workspaces.removeUnlessGoing("\(job)", after: .zero) } }
        }
        return try await group.reduce(into: 0) { $0 += $1 ? 1 : 0 }
      }
      #expect(removed > 0)
      #expect(folder.names == ["\(neighbour)"])
      #expect(access("\(folder.path)/\(neighbour)/work/precious", F_OK) == 0)
    }
  }

  @Test func anotherJobsNameIsNotTaken() throws {
    let folder = Folder()
    let workspaces = Workspaces(path: folder.path)
    let job = JobID(node: 1)
    try workspaces.make(job, uid: getuid(), gid: getgid())
    #expect(throws: Errno.self) { try workspaces.make(job, uid: getuid(), gid: getgid()) }
    try workspaces.make("slot-1", uid: getuid(), gid: getgid())
    let taken = #expect(throws: Errno.self) { try workspaces.rename("slot-1", to: job) }
    #expect(taken?.code == ENOTEMPTY)
  }

  @Test func aQuotaNeedsAFileSystemThatHasIt() throws {
    let report = try WorkspaceReport(.init(), directory: "/proc")
    #expect(report.state == "missing" && report.quota == 1 << 30 && !report.holds)
    var configuration = Configuration()
    configuration.filesystem.workspace.defaultQuota = 0
    #expect(try WorkspaceReport(configuration, directory: "/no/such/folder").holds)
  }
}
