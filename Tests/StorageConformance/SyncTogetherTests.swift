import Glibc
import JobletModel
import LocalStore
import LogStore
import Synchronization
import Testing

/// One sync for many jobs: what it covers is safe, and what it does not cover is synced on its own.
@Suite struct SyncTogetherTests {
  /// The syncs that were asked of the disk, by path; `during` is called inside each.
  private final class Syncs: Sendable {
    private let paths = Mutex<[String]>([])
    private let refused: Int32?
    private let during = Mutex<(@Sendable () -> Void)?>(nil)

    init(refusing errno: Int32? = nil) { refused = errno }

    func next(_ body: @escaping @Sendable () -> Void) { during.withLock { $0 = body } }
    func take() -> [String] {
      paths.withLock { paths in
        defer { paths = [] }; return paths
      }
    }

    /// - Parameter root: the path whose syncs are refused.
    func faults(root: String) -> DiskFaults {
      DiskFaults { [self] call, path in
        guard call == .sync else { return nil }
        paths.withLock { $0.append(path) }
        let body = during.withLock { body in
          defer { body = nil }
          return body
        }
        body?()
        return path == root ? refused.map { DiskFaults.Refusal(errno: $0) } : nil
      }
    }
  }

  private static func job(_ number: Int) -> JobID { JobID(high: 0x0193_0000_0000_7000, low: UInt64(number)) }

  private static func append(_ store: LocalLogStore, _ job: JobID, seq: UInt64 = 1) throws {
    try store.append([LocalBench.chunk(seq, count: 1, second: 0)], job: job, stream: .stdout)
  }

  private static func open(
    _ bench: LocalBench, _ syncs: Syncs, jobs count: Int, unwritten: Int? = 0
  ) throws -> (LocalLogStore, [JobID]) {
    let store = try LocalLogStore(
      logs: bench.path + "/logs", metrics: bench.path + "/metrics", faults: syncs.faults(root: bench.path + "/logs"),
      unwritten: { unwritten })
    let jobs = (1...count).map(Self.job)
    for job in jobs { try append(store, job) }
    return (store, jobs)
  }

  @Test func manyJobsTakeOneSync() throws {
    let bench = LocalBench()
    let syncs = Syncs()
    let (store, jobs) = try Self.open(bench, syncs, jobs: 16)
    #expect(store.syncTogether(jobs))
    #expect(syncs.take() == [bench.path + "/logs"])
    for job in jobs { try store.sync(job) }
    #expect(syncs.take().isEmpty)
    // What comes after it is not covered.
    try Self.append(store, jobs[3], seq: 2)
    try store.sync(jobs[3])
    #expect(syncs.take().count == 1)
  }

  @Test func whatIsAppendedMeanwhileIsNotCovered() throws {
    let bench = LocalBench()
    let syncs = Syncs()
    let (store, jobs) = try Self.open(bench, syncs, jobs: 20)
    syncs.next { do { try Self.append(store, jobs[5], seq: 2) } catch { Issue.record("\(error)") } }
    #expect(store.syncTogether(jobs))
    _ = syncs.take()
    for job in jobs { try store.sync(job) }
    let own = syncs.take()
    #expect(!own.isEmpty && own.allSatisfy { $0.contains("\(jobs[5])") || $0 == bench.path + "/logs" })
  }

  @Test(arguments: [(15, 0 as Int?), (16, 64 << 20 + 1), (16, nil)])
  func itIsNotDoneForFewNorBesideMuch(count: Int, unwritten: Int?) throws {
    let bench = LocalBench()
    let syncs = Syncs()
    let (store, jobs) = try Self.open(bench, syncs, jobs: count, unwritten: unwritten)
    #expect(!store.syncTogether(jobs))
    #expect(syncs.take().isEmpty)
  }

  @Test func afterAFailureEachFileTellsItsOwn() throws {
    let bench = LocalBench()
    let syncs = Syncs(refusing: EIO)
    let (store, jobs) = try Self.open(bench, syncs, jobs: 16)
    #expect(!store.syncTogether(jobs))
    #expect(syncs.take() == [bench.path + "/logs"])
    // The directory above is refused as well: a new job's can't be made safe.
    for job in jobs {
      #expect(throws: LocalStoreError.self) { try store.sync(job) }
    }
    #expect(syncs.take().count { $0.hasSuffix("stdout.log.gz") } == 16)
  }

  @Test(arguments: [
    ("MemTotal: 5 kB\nDirty:        12 kB\nWriteback:     3 kB\nWritebackTmp: 9 kB\n", 15 << 10 as Int?),
    ("Dirty: 12 kB\n", nil), ("Dirty: x kB\nWriteback: 3 kB\n", nil), ("Dirty: -1 kB\nWriteback: 3 kB\n", nil),
    ("", nil),
  ])
  func theHostsPagesAreRead(text: String, bytes: Int?) { #expect(HostPages.unwrittenBytes(meminfo: text) == bytes) }

  @Test func thisHostsPagesAreKnown() { #expect(HostPages.unwrittenBytes() != nil) }
}
