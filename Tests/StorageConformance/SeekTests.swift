import Glibc
import JobletModel
import LocalStore
import LogStore
import Testing

/// How a range is found in a file: by few headers, and with the same answer as by all of them.
@Suite struct SeekTests {
  static let job = LocalBench.job
  let bench = LocalBench()

  /// A header far from the range can be damaged without the range's reader ever seeing it: nobody walked over it.
  @Test func whatLiesFarFromTheRangeIsNotTouched() throws {
    let store = try bench.fill(members: 400)
    var bytes = bench.bytes(bench.file)
    let members = LocalBench.members(bytes)
    for index in [5, 100, 200] { bytes[members[index].offset + 30] ^= 1 }
    try bench.write(bytes, to: bench.file)
    for query in [
      LogQuery(job: Self.job, after: 3500, limit: 10),
      LogQuery(job: Self.job, since: LocalBench.time(350), until: LocalBench.time(352)),
      LogQuery(job: Self.job, tail: 25), LogQuery(job: Self.job, limit: 25, order: .descending),
    ] {
      let (seqs, gaps) = try LocalBench.ask(store, query)
      #expect(!seqs.isEmpty && gaps.isEmpty, "\(query)")
    }
    let (seqs, gaps) = try LocalBench.ask(store, LogQuery(job: Self.job))
    #expect(seqs.count == 3970 && gaps == [51...60, 1001...1010, 2001...2010])
  }

  @Test(arguments: [1, 2, 3, 63, 64, 65, 66, 127, 128, 129, 130, 300])
  func everyRangeIsFound(members: Int) throws {
    let store = try bench.fill(members: members)
    var random = SeededNumbers(UInt64(members))
    let last = UInt64(members * 10)
    for _ in 0..<60 {
      let after = UInt64.random(in: 0...last + 1, using: &random)
      let through = UInt64.random(in: 0...last + 1, using: &random)
      let since = Int64.random(in: -1...Int64(members), using: &random)
      let until = Int64.random(in: -1...Int64(members), using: &random)
      for order in QueryOrder.allCases {
        let bySeq = LogQuery(job: Self.job, after: after, through: through, order: order)
        let expected = (1...last).filter { $0 > after && $0 <= through }
        #expect(try LocalBench.ask(store, bySeq).seqs == (order == .ascending ? expected : expected.reversed()))
        let byTime = LogQuery(
          job: Self.job, since: LocalBench.time(since), until: LocalBench.time(until), order: order)
        let timely = (1...last).filter { (since...max(since, until)).contains(Int64($0 - 1) / 10) && since <= until }
        #expect(try LocalBench.ask(store, byTime).seqs == (order == .ascending ? timely : timely.reversed()))
      }
    }
  }

  /// Where the clock ran back, times can't be searched for; the answer is the same as ever.
  @Test func aClockThatRanBackHidesNothing() throws {
    let clock = { (index: Int) -> Int64 in index < 150 ? Int64(index) : Int64(index) - 100 }
    let store = try bench.fill(members: 300, clock: clock)
    #expect(
      LocalBench.members(bench.bytes(bench.file)).map { $0.header.flags.contains(.inOrderOfTime) }
        == (0..<300).map { $0 < 150 })
    for (since, until) in [(60, 61), (149, 149), (0, 3), (199, 300), (140, 160)] as [(Int64, Int64)] {
      let expected = (1...3000 as ClosedRange<UInt64>).filter { (since...until).contains(clock(Int($0 - 1) / 10)) }
      for order in QueryOrder.allCases {
        let query = LogQuery(job: Self.job, since: LocalBench.time(since), until: LocalBench.time(until), order: order)
        #expect(try LocalBench.ask(store, query).seqs == (order == .ascending ? expected : expected.reversed()))
      }
    }
    // A store that starts anew knows it still.
    store.forget(Self.job)
    try store.append([LocalBench.chunk(3001, count: 1, second: 400)], job: Self.job, stream: .stdout)
    #expect(LocalBench.members(bench.bytes(bench.file)).last?.header.flags.contains(.inOrderOfTime) == false)
  }

  /// Both directions tell the same of any file, however damaged: lines and gaps.
  @Test func bothDirectionsAgreeOnDamagedFiles() throws {
    _ = try bench.fill(members: 150)
    let good = bench.bytes(bench.file)
    var random = SeededNumbers(53)
    for round in 0..<250 {
      var bytes = good
      for _ in 0..<Int.random(in: 0...6, using: &random) {
        bytes[Int.random(in: 0..<bytes.count, using: &random)] ^= UInt8.random(in: 1...255, using: &random)
      }
      if round % 5 == 0 { bytes.removeLast(Int.random(in: 0..<400, using: &random)) }
      if round % 7 == 0 {
        let start = Int.random(in: 0..<bytes.count - 2000, using: &random)
        bytes.removeSubrange(start..<start + Int.random(in: 1..<2000, using: &random))
      }
      try bench.write(bytes, to: bench.file)
      let store = try bench.open()
      let up = try LocalBench.ask(store, LogQuery(job: Self.job))
      let down = try LocalBench.ask(store, LogQuery(job: Self.job, order: .descending))
      let numbers = { (gaps: [ClosedRange<UInt64>]) in gaps.flatMap { Array($0) } }
      #expect(up.seqs == down.seqs.reversed(), "round \(round)")
      // One hole may be told in one piece or in two.
      #expect(numbers(up.gaps) == numbers(down.gaps.reversed()), "round \(round)")
      #expect(up.seqs == Array(Set(up.seqs)).sorted())
      // Any part of it is that part of the whole.
      let after = UInt64.random(in: 0...1500, using: &random)
      let part = try LocalBench.ask(store, LogQuery(job: Self.job, after: after))
      #expect(part.seqs == up.seqs.filter { $0 > after }, "round \(round)")
      #expect(numbers(part.gaps) == numbers(up.gaps).filter { $0 > after })
      let tail = try LocalBench.ask(store, LogQuery(job: Self.job, tail: 33))
      #expect(tail.seqs == up.seqs.suffix(33), "round \(round)")
    }
  }

  /// A large hole is searched in pieces, forwards and backwards.
  @Test func aLargeHoleIsAGap() throws {
    let store = try bench.fill(members: 20)
    let bytes = bench.bytes(bench.file)
    let members = LocalBench.members(bytes)
    let hole = [UInt8](repeating: 0x55, count: 9 << 20)
    let cut = members[8].offset
    try bench.write(Array(bytes[..<cut]) + hole + Array(bytes[members[12].offset...]), to: bench.file)
    for order in QueryOrder.allCases {
      let (seqs, gaps) = try LocalBench.ask(store, LogQuery(job: Self.job, order: order))
      #expect(seqs.count == 160 && gaps == [81...120])
    }
    #expect(try LocalBench.ask(store, LogQuery(job: Self.job, tail: 90)).seqs.first == 71)
    #expect(try store.lastSeq(Self.job, .stdout) == 200)
  }
}
