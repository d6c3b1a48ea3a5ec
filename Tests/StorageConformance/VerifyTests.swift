import Glibc
import JobletModel
import LocalStore
import LogStore
import Testing

/// Verifying finds what is wrong, says so, and changes nothing.
@Suite struct VerifyTests {
  static let job = LocalBench.job
  let bench = LocalBench()

  func fault(_ kind: StreamFault.Kind, _ report: StreamReport?) -> StreamFault? {
    report?.faults.first { $0.kind == kind }
  }

  @Test func aSoundJobIsSound() throws {
    let sample = Sample(seed: 12, chunks: 300)
    let store = try bench.open()
    for chunk in sample.chunks { try store.append([chunk], job: Self.job, stream: chunk.info.stream) }
    try store.append([MetricStreamConformance.chunk(1...40)], job: Self.job, stream: .metrics)
    try store.sync(Self.job)
    let before = bench.bytes(bench.file)
    let reader = try bench.reader()
    let report = try #require(try reader.verify(Self.job))
    #expect(report.isSound, "\(report)")
    #expect(report.streams.map(\.stream) == [.stdout, .stderr, .metrics])
    #expect(report.streams[0].lines + report.streams[1].lines == UInt64(sample.lines.count))
    #expect(report.streams[0].members == UInt64(sample.chunks.filter { $0.info.stream == .stdout }.count))
    #expect(report.streams[2].lines == 40 && report.streams[2].seqs == 1...40)
    #expect(report.streams.allSatisfy { $0.tornBytes == 0 && $0.fileBytes > 0 && $0.jsonBytes > 0 })
    #expect(bench.bytes(bench.file) == before)
    #expect(try reader.verify(JobID(high: 1, low: 1)) == nil)
    #expect(try reader.storedJobs() == [Self.job])
  }

  @Test func missingNumbersAreTold() throws {
    let store = try bench.open()
    for first in [1, 31, 51] as [UInt64] {
      try store.append([LocalBench.chunk(first, count: 10, second: 1)], job: Self.job, stream: .stdout)
    }
    let report = try #require(try store.verify(Self.job))
    #expect(report.missingLines == [11...30, 41...50] && report.missingRuns == 2 && !report.isSound)
    #expect(report.streams.allSatisfy { $0.isSound })
  }

  @Test func aTornTailIsNoFault() throws {
    let store = try bench.fill(members: 5)
    let bytes = bench.bytes(bench.file)
    try bench.write(Array(bytes.dropLast(7)), to: bench.file)
    let report = try store.verify(Self.job, .stdout)
    let last = try #require(LocalBench.members(bytes).last)
    #expect(report?.tornBytes == last.header.memberLength - 7 && report?.isSound == true && report?.members == 4)
  }

  /// Every byte of a member counts: none can change unseen, but for the few bits that pad the deflate data's last byte.
  @Test func everyChangedByteIsSeen() throws {
    let store = try bench.fill(members: 3)
    let bytes = bench.bytes(bench.file)
    let middle = LocalBench.members(bytes)[1]
    for place in middle.offset..<(middle.offset + Int(middle.header.memberLength)) {
      var changed = bytes
      let isLastOfDeflate = place == middle.offset + Int(middle.header.memberLength) - MemberHeader.trailerLength - 1
      changed[place] ^= isLastOfDeflate ? 0xFF : 0x20
      try bench.write(changed, to: bench.file)
      let report = try #require(try store.verify(Self.job, .stdout))
      #expect(!report.isSound, "byte \(place - middle.offset) of the member")
    }
  }

  /// Writes a header anew, its checksum right: only what it says is wrong.
  func lie(about member: Int, _ change: (inout MemberHeader) -> Void) throws -> StreamReport {
    let bench = LocalBench()
    let store = try bench.fill(members: 70)
    var bytes = bench.bytes(bench.file)
    let (offset, header) = LocalBench.members(bytes)[member]
    var changed = header
    change(&changed)
    bytes.withUnsafeMutableBytes {
      changed.encode(into: UnsafeMutableRawBufferPointer(rebasing: $0[offset..<(offset + MemberHeader.byteCount)]))
    }
    try bench.write(bytes, to: bench.file)
    return try #require(try store.verify(Self.job, .stdout))
  }

  @Test func headersThatLieAreFound() throws {
    #expect(try fault(.header, lie(about: 3) { $0.previousLength += 1 }) != nil)
    #expect(try fault(.header, lie(about: 3) { $0.index += 1 }) != nil)
    #expect(try fault(.header, lie(about: 64) { $0.skip -= 1 }) != nil)
    #expect(try fault(.header, lie(about: 64) { $0.skip = 0 }) != nil)
    #expect(try fault(.header, lie(about: 5) { $0.skip = 10 }) != nil)
    #expect(try fault(.header, lie(about: 5) { $0.count += 1 }) != nil)
    #expect(try fault(.header, lie(about: 5) { $0.lastSeq += 1 }) != nil)
    #expect(try fault(.order, lie(about: 5) { $0.firstSeq -= 1 }) != nil)
    #expect(try fault(.header, lie(about: 5) { $0.earliest.nanoseconds += 1 }) != nil)
    #expect(try fault(.header, lie(about: 5) { $0.latest.nanoseconds -= 1 }) != nil)
    #expect(try fault(.header, lie(about: 5) { $0.stream = .stderr }) != nil)
    #expect(try fault(.checksum, lie(about: 5) { $0.jsonLength -= 1 }) != nil)
    #expect(try fault(.damage, lie(about: 5) { $0.memberLength -= 1 }) != nil)
    #expect(try lie(about: 5) { $0.count += 0 }.isSound)
  }

  /// What is no line of the stream does not pass, though every checksum holds.
  @Test func linesThatAreNoneAreFound() throws {
    let store = try bench.open()
    let text = MetricStreamConformance.sample(1).line.dropLast(2) + ",\"x\":nonsense}\n"
    let info = StoredChunkInfo(
      stream: .metrics, firstSeq: 1, count: 1, earliest: MetricStreamConformance.sample(1).ts,
      latest: MetricStreamConformance.sample(1).ts)
    try store.append(
      [Array(text.utf8).withUnsafeBytes { LogChunk(info, copying: $0) }], job: Self.job, stream: .metrics)
    #expect(try fault(.line, store.verify(Self.job, .metrics)) != nil)
    #expect(try store.verify(Self.job)?.isSound == false)
  }

  @Test func fuzzedFilesAreReportedNeverTrapped() throws {
    let store = try bench.fill(members: 80)
    let good = bench.bytes(bench.file)
    var random = SeededNumbers(61)
    for round in 0..<250 {
      var bytes = good
      for _ in 0..<Int.random(in: 1...5, using: &random) {
        bytes[Int.random(in: 0..<bytes.count, using: &random)] ^= UInt8.random(in: 1...255, using: &random)
      }
      if round % 4 == 0 {
        bytes.insert(contentsOf: bytes.prefix(round), at: Int.random(in: 0..<bytes.count, using: &random))
      }
      try bench.write(bytes, to: bench.file)
      let report = try #require(try store.verify(Self.job))
      #expect(!report.isSound || report.streams[0].tornBytes > 0, "round \(round)")
    }
  }
}
