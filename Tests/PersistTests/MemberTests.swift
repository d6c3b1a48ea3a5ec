import Glibc
import JobletModel
import LocalStore
import LogStore
import Testing

@Suite struct MemberHeaderTests {
  static let header = MemberHeader(
    stream: .stderr, memberLength: 0x0102, previousLength: 0x0304, skip: 0x0506, index: 64, count: 3,
    jsonLength: 0x0708,
    firstSeq: 17, lastSeq: 19, earliest: Timestamp(nanoseconds: 1), latest: Timestamp(nanoseconds: -1))

  static func encode(_ header: MemberHeader) -> [UInt8] {
    var bytes = [UInt8](repeating: 0xAA, count: MemberHeader.byteCount)
    bytes.withUnsafeMutableBytes { header.encode(into: $0) }
    return bytes
  }

  @Test func hasTheDocumentedBytes() {
    func number(_ low: UInt8, _ high: UInt8 = 0) -> [UInt8] { [low, high, 0, 0, 0, 0, 0, 0] }
    var expected: [UInt8] = [0x1F, 0x8B, 8, 4, 0, 0, 0, 0, 4, 3, 84, 0, 0x4A, 0x4C, 80, 0, 1, 2, 0, 0, 0, 0, 0, 0]
    expected += number(2, 1) + number(4, 3) + number(6, 5) + number(64) + [3, 0, 0, 0, 8, 7, 0, 0]
    expected += number(17) + number(19) + number(1) + [UInt8](repeating: 255, count: 8)
    let crc = expected.withUnsafeBytes { CRC32.update(0, $0) }
    for byte in 0..<4 { expected[20 + byte] = UInt8(truncatingIfNeeded: crc >> (8 * UInt32(byte))) }
    #expect(Self.encode(Self.header) == expected)
    #expect(expected.withUnsafeBytes { MemberHeader($0) } == Self.header)
  }

  /// CRC-32's check value (RFC 1952's polynomial): "123456789" gives 0xCBF43926.
  @Test func usesGzipsChecksum() {
    #expect(Array("123456789".utf8).withUnsafeBytes { CRC32.update(0, $0) } == 0xCBF4_3926)
  }

  @Test func everyChangedBitIsSeen() {
    let bytes = Self.encode(Self.header)
    for bit in 0..<(bytes.count * 8) {
      let changed = bytes.replacing(bit / 8, bytes[bit / 8] ^ (1 << (bit % 8)))
      #expect(changed.withUnsafeBytes { MemberHeader($0) } == nil, "bit \(bit)")
    }
    for length in 0..<bytes.count { #expect(bytes[..<length].withUnsafeBytes { MemberHeader($0) } == nil) }
  }
}

@Suite struct MemberFileTests {
  let job = Bench.job
  let scratch = Scratch()

  /// A store with the output's stdout in members of some chunks each.
  func store(_ output: Output, perMember: Int = 5) throws -> LocalLogStore {
    let store = try LocalLogStore(logs: scratch.path + "/logs", metrics: scratch.path + "/metrics")
    var rest = output.chunks.filter { $0.info.stream == .stdout }[...]
    while !rest.isEmpty {
      try store.append(Array(rest.prefix(perMember)), job: job, stream: .stdout)
      rest = rest.dropFirst(perMember)
    }
    try store.sync(job)
    store.forget(job)
    return store
  }

  var path: String { scratch.file(job, "stdout") }

  func members(_ bytes: [UInt8]) -> [(offset: Int, header: MemberHeader)] {
    var found: [(Int, MemberHeader)] = []
    var offset = 0
    while offset < bytes.count, let header = bytes[offset...].withUnsafeBytes({ MemberHeader($0) }) {
      found.append((offset, header))
      offset += Int(header.memberLength)
    }
    return found
  }

  func read(_ store: LocalLogStore, _ query: LogQuery? = nil) throws -> (lines: [UInt8], gaps: [ClosedRange<UInt64>]) {
    let query = query ?? LogQuery(job: job, stream: .stdout)
    let scanner = try LogScanner(query) { [try store.pages(job, $0, $1, $2)] }
    var lines: [UInt8] = []
    var gaps: [ClosedRange<UInt64>] = []
    while true {
      switch try scanner.next() {
      case .lines(_, _, let bytes): lines += Array(bytes)
      case .gap(let first, let last): gaps.append(first...last)
      case .working: continue
      case .end: return (lines, gaps)
      }
    }
  }

  func stdout(_ output: Output, where isWanted: (UInt64) -> Bool = { _ in true }) -> [UInt8] {
    let chunks = output.chunks.filter { $0.info.stream == .stdout }
    return output.json.filter { line in
      isWanted(line.seq) && chunks.contains { $0.info.firstSeq <= line.seq && line.seq <= $0.info.lastSeq }
    }.flatMap(\.line)
  }

  @Test func membersNameTheirNeighbours() throws {
    let output = Output(seed: 1, chunks: 400)
    let store = try store(output, perMember: 1)
    let bytes = scratch.bytes(path)
    let members = members(bytes)
    #expect(members.last.map { $0.offset + Int($0.header.memberLength) } == bytes.count)
    #expect(members.count == output.chunks.filter { $0.info.stream == .stdout }.count)
    for (index, member) in members.enumerated() {
      #expect(member.header.index == UInt64(index))
      #expect(member.header.previousLength == (index == 0 ? 0 : members[index - 1].header.memberLength))
      let hasSkip = index > 0 && index % 64 == 0
      #expect(Int(member.header.skip) == (hasSkip ? member.offset - members[index - 64].offset : 0))
    }
    // A store that starts anew goes on with the chain.
    var more = Output(seed: 9, chunks: 300, from: output.last + 1)
    more.chunks = more.chunks.filter { $0.info.stream == .stdout }
    let fresh = try LocalLogStore(logs: scratch.path + "/logs", metrics: scratch.path + "/metrics")
    for chunk in more.chunks { try fresh.append([chunk], job: job, stream: .stdout) }
    let after = self.members(scratch.bytes(path))
    #expect(after.count == members.count + more.chunks.count)
    for index in stride(from: 64, to: after.count, by: 64) {
      #expect(Int(after[index].header.skip) == after[index].offset - after[index - 64].offset)
    }
    #expect(
      try read(store).lines == stdout(output)
        + more.json.filter { line in
          more.chunks.contains { $0.info.firstSeq <= line.seq && line.seq <= $0.info.lastSeq }
        }.flatMap(\.line))
  }

  @Test func aTornTailIsCutToTheLastWholeMember() throws {
    let output = Output(seed: 2, chunks: 60)
    let whole = try store(output)
    let bytes = scratch.bytes(path)
    let last = try #require(members(bytes).last)
    for kept in [1, 50, 95, 96, 97, 200, Int(last.header.memberLength) - 1] where kept < last.header.memberLength {
      try scratch.write(Array(bytes[..<(last.offset + kept)]), to: path)
      // A reader takes what is whole even before anyone repairs the file.
      #expect(try read(whole).lines == stdout(output) { $0 < last.header.firstSeq })
      let store = try LocalLogStore(logs: scratch.path + "/logs", metrics: scratch.path + "/metrics")
      let cut = try store.recover(job, .stdout, logFrom: last.header.firstSeq)
      #expect(cut?.bytes == kept)
      #expect(scratch.bytes(path) == Array(bytes[..<last.offset]))
      // The log makes the rest again, byte for byte.
      let again = output.chunks.filter { $0.info.stream == .stdout && $0.info.firstSeq >= last.header.firstSeq }
      try store.append(again, job: job, stream: .stdout)
      #expect(scratch.bytes(path) == bytes)
    }
  }

  @Test func aDamagedMemberInTheMiddleIsAGap() throws {
    let output = Output(seed: 3, chunks: 80)
    let store = try store(output)
    let bytes = scratch.bytes(path)
    let members = members(bytes)
    let victim = members[members.count / 2]
    for place in [0, 30, 96, Int(victim.header.memberLength) - 5] {
      let changed = bytes.replacing(victim.offset + place, bytes[victim.offset + place] ^ 0x40)
      try scratch.write(changed, to: path)
      let (lines, gaps) = try read(store)
      #expect(lines == stdout(output) { !(victim.header.firstSeq...victim.header.lastSeq).contains($0) })
      let gap = try #require(gaps.first)
      #expect(gaps.count == 1 && gap.contains(victim.header.firstSeq) && gap.contains(victim.header.lastSeq))
      // It is synced and not in the log: repairing must leave it, and all behind it, alone.
      let fresh = try LocalLogStore(logs: scratch.path + "/logs", metrics: scratch.path + "/metrics")
      #expect(try fresh.recover(job, .stdout, logFrom: output.last + 1) == nil)
      #expect(scratch.bytes(path) == changed)
    }
  }

  @Test func damageThatTheLogCanMendIsCut() throws {
    let output = Output(seed: 4, chunks: 80)
    _ = try store(output)
    let bytes = scratch.bytes(path)
    let members = members(bytes)
    let victim = members[members.count - 2]
    try scratch.write(bytes.replacing(victim.offset + 120, bytes[victim.offset + 120] ^ 1), to: path)
    let store = try LocalLogStore(logs: scratch.path + "/logs", metrics: scratch.path + "/metrics")
    #expect(try store.recover(job, .stdout, logFrom: victim.header.firstSeq) != nil)
    #expect(scratch.bytes(path) == Array(bytes[..<victim.offset]))
  }

  @Test func followsNoLinks() throws {
    let output = Output(seed: 5, chunks: 10)
    let precious = scratch.path + "/precious"
    try scratch.write([1, 2, 3], to: precious)
    let store = try LocalLogStore(logs: scratch.path + "/logs", metrics: scratch.path + "/metrics")
    let chunks = output.chunks.filter { $0.info.stream == .stdout }
    mkdir("\(scratch.path)/logs/\(job)", 0o700)
    symlink(precious, path)
    #expect(throws: LocalStoreError.self) { try store.append(chunks, job: job, stream: .stdout) }
    #expect(try store.delete(job))
    #expect(scratch.bytes(precious) == [1, 2, 3])

    // A job's directory that is a link to somewhere else.
    mkdir(scratch.path + "/elsewhere", 0o700)
    try scratch.write([4], to: scratch.path + "/elsewhere/stdout.log.gz")
    symlink(scratch.path + "/elsewhere", "\(scratch.path)/logs/\(job)")
    #expect(throws: LocalStoreError.self) { try store.append(chunks, job: job, stream: .stdout) }
    #expect(try store.delete(job))
    #expect(scratch.bytes(scratch.path + "/elsewhere/stdout.log.gz") == [4])
  }

  @Test func goesOnWhenTheFileWasRemovedByHand() throws {
    let output = Output(seed: 6, chunks: 40)
    let chunks = output.chunks.filter { $0.info.stream == .stdout }
    let store = try LocalLogStore(logs: scratch.path + "/logs", metrics: scratch.path + "/metrics")
    try store.append(Array(chunks[..<10]), job: job, stream: .stdout)
    try store.sync(job)
    unlink(path)
    rmdir("\(scratch.path)/logs/\(job)")
    try store.append(Array(chunks[10...]), job: job, stream: .stdout)
    try store.sync(job)
    #expect(try read(store).lines == stdout(output) { $0 >= chunks[10].info.firstSeq })
  }

  @Test func fuzzedFilesNeverTrap() throws {
    let output = Output(seed: 7, chunks: 60)
    _ = try store(output, perMember: 2)
    let bytes = scratch.bytes(path)
    var random = SeededNumbers(13)
    for round in 0..<400 {
      var changed = bytes
      for _ in 0..<Int.random(in: 1...8, using: &random) {
        changed[Int.random(in: 0..<changed.count, using: &random)] = UInt8.random(in: 0...255, using: &random)
      }
      if round % 3 == 0 { changed.removeLast(Int.random(in: 0..<changed.count, using: &random)) }
      try scratch.write(changed, to: path)
      let store = try LocalLogStore(logs: scratch.path + "/logs", metrics: scratch.path + "/metrics")
      // Whatever is given is true: every line is one that was stored, in order.
      let given = try read(store).lines.split(separator: 0x0A).map { Array($0) + [0x0A] }
      let known = output.json.map(\.line)
      var position = known.startIndex
      for line in given {
        guard let found = known[position...].firstIndex(of: line) else {
          Issue.record("round \(round): a line that was never stored")
          break
        }
        position = found + 1
      }
      _ = try store.recover(job, .stdout, logFrom: UInt64.random(in: 0...output.last, using: &random))
      _ = try store.lastSeq(job, .stdout)
    }
  }
}
