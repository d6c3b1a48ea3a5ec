import FoundationEssentials
import JobletConfig
import JobletModel
import JobletWire
import LogStore
import Persist
import Testing

@Suite(.serialized) struct VerifyTests {
  let job = Bench.job

  static func verify(_ scratch: Scratch, _ job: JobID?, json: Bool = false) async throws -> (
    status: CommandStatus, text: String
  ) {
    let (status, bytes) = try await CommandTests.output(scratch) {
      try VerifyCommand(job: job, json: json).run(CommandTests.configuration(scratch), $0)
    }
    return (status, String(decoding: bytes, as: UTF8.self))
  }

  /// A directory with one job, all of it in files.
  func stored(_ output: Output) async throws -> Scratch {
    let bench = try Bench()
    let writer = try bench.writer()
    try writer.send(job, output.chunks)
    try writer.end(job, output.last)
    try writer.awaitAck(.end, job, output.last)
    try await bench.close()
    return bench.scratch
  }

  static let large = Output((0..<30_000).map { Array("line \($0) \($0 &* 2_654_435_761)".utf8) })

  @Test func whatIsSoundIsSound() async throws {
    let scratch = try await stored(Output(seed: 81, chunks: 800))
    let one = try await Self.verify(scratch, job)
    #expect(one.status == .good)
    #expect(one.text.contains("stdout") && one.text.contains("stderr") && !one.text.contains("FAULTY"))
    let all = try await Self.verify(scratch, nil, json: true)
    #expect(all.status == .good)
    let lines = all.text.split(separator: "\n")
    #expect(lines.count == 2 && lines[0].contains("\"sound\":true") && lines[1].contains("\"faulty_jobs\":0"))
  }

  @Test func linesThatOnlyTheLogHasAreNotMissing() async throws {
    let bench = try Bench()
    let writer = try bench.writer()
    // stdout fills members, a little of stderr in its midst waits in memory.
    var output = Output([])
    output.chunks = []
    for index in 0..<400 {
      let info = LogChunkInfo(
        stream: index == 100 ? .stderr : .stdout, firstSeq: UInt64(index * 50 + 1), count: 50,
        timestamp: Timestamp(nanoseconds: 1), isPartial: false)
      output.append(info, (0..<50).map { Array("line \(index) \($0) \($0 &* 2_654_435_761 &+ index)".utf8) })
    }
    try writer.send(job, output.chunks)
    try writer.awaitAck(.log, job, output.last)
    try await bench.untilSealed(1)
    #expect(try await Self.verify(bench.scratch, nil).status == .good)  // beside the running daemon
    await bench.crash()
    let (status, text) = try await Self.verify(bench.scratch, job)
    #expect(status == .good, "\(text)")
  }

  @Test(arguments: [0.1, 0.5, 0.9]) func aChangedByteIsFound(place: Double) async throws {
    let scratch = try await stored(Self.large)
    let path = scratch.file(job, "stdout")
    var bytes = scratch.bytes(path)
    bytes[Int(Double(bytes.count) * place)] ^= 0x10
    try scratch.write(bytes, to: path)
    let (status, text) = try await Self.verify(scratch, job)
    #expect(status == .fault)
    #expect(text.contains("FAULTY") && text.contains(path), "\(text)")
    let json = try await Self.verify(scratch, job, json: true)
    #expect(json.status == .fault && json.text.contains("\"sound\":false"))
  }

  @Test func aMemberThatIsGoneIsMissed() async throws {
    let scratch = try await stored(Self.large)
    let path = scratch.file(job, "stdout")
    let bytes = scratch.bytes(path)
    // From the second member to the third: found by their signature.
    let signature = Array(bytes[0..<17])
    let starts = bytes.indices.filter {
      $0 + 17 <= bytes.count && bytes[$0] == 0x1F && Array(bytes[$0..<($0 + 17)]) == signature
    }
    try #require(starts.count > 3)
    try scratch.write(Array(bytes[..<starts[1]] + bytes[starts[2]...]), to: path)
    let (status, text) = try await Self.verify(scratch, job)
    #expect(status == .fault && text.contains("missing lines"), "\(text)")
  }

  @Test func aTornEndIsToldAndNoFault() async throws {
    let scratch = try await stored(Self.large)
    let path = scratch.file(job, "stdout")
    let bytes = scratch.bytes(path)
    try scratch.write(bytes + bytes[..<500], to: path)
    let (status, text) = try await Self.verify(scratch, job)
    #expect(text.contains("no whole member yet"), "\(text)")
    #expect(status == .good)
  }

  @Test func nothingAndNobody() async throws {
    let scratch = try await stored(Output(seed: 82, chunks: 3))
    await #expect(throws: PersistError.self) { try await Self.verify(scratch, JobID(high: 3, low: 3)) }
    try FileManager.default.createDirectory(
      atPath: scratch.path + "/logs/lost+found", withIntermediateDirectories: false)
    #expect(try await Self.verify(scratch, nil).status == .good)
    try FileManager.default.removeItem(atPath: scratch.path + "/logs/\(job)")
    #expect(try await Self.verify(scratch, nil).text.contains("0 jobs"))
  }
}
