import FoundationEssentials
import Glibc
import JobletModel
import LocalStore
import LogStore
import Testing

/// Something else stands where a file of the store should: a clear error, nothing of it harmed, everything else as ever.
@Suite struct ObstacleTests {
  static let job = LocalBench.job
  let bench = LocalBench()

  enum Obstacle: String, CaseIterable, Sendable {
    case link, directory, garbage, pipe, jobLink, jobFile
  }

  /// Puts it there; answers what it must still be afterwards.
  func place(_ obstacle: Obstacle) throws -> [UInt8] {
    let precious: [UInt8] = Array("precious, and not ours\n".utf8)
    try bench.write(precious, to: bench.path + "/precious")
    if obstacle == .jobLink || obstacle == .jobFile {
      try FileManager.default.removeItem(atPath: bench.directory)
    } else {
      unlink(bench.file)
    }
    switch obstacle {
    case .link: symlink(bench.path + "/precious", bench.file)
    case .directory: mkdir(bench.file, 0o700)
    case .garbage: try bench.write(precious, to: bench.file)
    case .pipe: mkfifo(bench.file, 0o600)
    case .jobLink:
      mkdir(bench.path + "/elsewhere", 0o700)
      symlink(bench.path + "/elsewhere", bench.directory)
    case .jobFile: try bench.write(precious, to: bench.directory)
    }
    return precious
  }

  @Test(arguments: Obstacle.allCases, [true, false]) func isLeftAloneAndSetAside(obstacle: Obstacle, isKnown: Bool)
    throws
  {
    let store = try bench.fill(members: 3)
    let other = JobID(high: 7, low: 7)
    try store.append([LocalBench.chunk(1, count: 5, second: 1)], job: other, stream: .stdout)
    let precious = try place(obstacle)
    if !isKnown { store.forget(Self.job) }
    let next = LocalBench.chunk(31, count: 5, second: 9)

    let error = try #require(throws: LocalStoreError.self) {
      try store.append([next], job: Self.job, stream: .stdout)
    }
    #expect(error.isObstacle && error.description.contains(bench.path))
    #expect(throws: LocalStoreError.self) { try LocalBench.ask(store, LogQuery(job: Self.job, stream: .stdout)) }
    let report = try #require(try store.verify(Self.job))
    #expect(report.streams.contains { $0.faults.contains { $0.kind == .unreadable } })
    if obstacle != .jobLink && obstacle != .jobFile {
      // The job's other streams, and other jobs, go on.
      try store.append([MetricStreamConformance.chunk(1...2)], job: Self.job, stream: .metrics)
    }
    try store.append([LocalBench.chunk(6, count: 5, second: 2)], job: other, stream: .stdout)
    #expect(try store.verify(other)?.isSound == true)

    let moved = try #require(try store.setAside(Self.job, .stdout))
    #expect(moved.contains(".aside-1"))
    #expect(try store.setAside(Self.job, .stdout) == nil)
    try store.append([next], job: Self.job, stream: .stdout)
    try store.sync(Self.job)
    #expect(try LocalBench.ask(store, LogQuery(job: Self.job)).seqs == Array(31...35))
    #expect(bench.bytes(bench.path + "/precious") == precious)
    if obstacle == .garbage || obstacle == .jobFile { #expect(bench.bytes(moved) == precious) }
  }

  /// A first member that was torn, or that a power cut left as zeros, is not foreign: the log makes it again.
  @Test func aTornFirstMemberIsOurs() throws {
    let store = try bench.fill(members: 1)
    let whole = bench.bytes(bench.file)
    for torn in [
      Array(whole.prefix(1)), Array(whole.prefix(9)), Array(whole.prefix(100)), [UInt8](repeating: 0, count: 500),
    ] {
      try bench.write(torn, to: bench.file)
      let fresh = try bench.open()
      #expect(try LocalBench.ask(fresh, LogQuery(job: Self.job)).seqs.isEmpty)
      #expect(try fresh.setAside(Self.job, .stdout) == nil)
      #expect(try fresh.recover(Self.job, .stdout, logFrom: 1)?.bytes == torn.count)
      try fresh.append([LocalBench.chunk(1, count: 10, second: 0)], job: Self.job, stream: .stdout)
      #expect(bench.bytes(bench.file) == whole)
    }
    _ = store
  }

  /// A file that was changed for another one behind the store's back is learned anew, not written over.
  @Test func anotherFileInItsPlaceIsLearnedAnew() throws {
    let store = try bench.fill(members: 4)
    let bytes = bench.bytes(bench.file)
    let members = LocalBench.members(bytes)
    unlink(bench.file)
    try bench.write(Array(bytes[..<(members[2].offset + 20)]), to: bench.file)
    try store.append([LocalBench.chunk(41, count: 5, second: 50)], job: Self.job, stream: .stdout)
    #expect(try LocalBench.ask(store, LogQuery(job: Self.job)).seqs == Array(1...20) + Array(41...45))
    #expect(try store.verify(Self.job, .stdout)?.isSound == true)
    truncate(bench.file, off_t(members[1].offset + 3))
    try store.append([LocalBench.chunk(46, count: 5, second: 50)], job: Self.job, stream: .stdout)
    #expect(try LocalBench.ask(store, LogQuery(job: Self.job)).seqs == Array(1...10) + Array(46...50))
  }

  @Test func aReaderChangesNothing() throws {
    let store = try bench.fill(members: 2)
    let reader = try bench.reader()
    #expect(throws: LocalStoreError.self) {
      try reader.append([LocalBench.chunk(21, count: 1, second: 3)], job: Self.job, stream: .stdout)
    }
    #expect(throws: LocalStoreError.self) { try reader.delete(Self.job) }
    #expect(throws: LocalStoreError.self) { try reader.recover(Self.job, .stdout, logFrom: 1) }
    #expect(throws: LocalStoreError.self) { try reader.setAside(Self.job, .stdout) }
    #expect(try LocalBench.ask(reader, LogQuery(job: Self.job)).seqs == Array(1...20))
    rmdir(bench.path + "/metrics")
    #expect(try bench.reader().lastSeq(Self.job, .metrics) == 0)
    #expect(access(bench.path + "/metrics", F_OK) != 0)
    #expect(throws: LocalStoreError.self) {
      try LocalLogStore(existingLogs: bench.path + "/none", metrics: bench.path + "/none")
    }
    _ = store
  }
}
