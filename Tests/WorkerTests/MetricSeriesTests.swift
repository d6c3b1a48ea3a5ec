import Cgroups
import FoundationEssentials
import JobletModel
import LinuxKernel
import Testing
import Worker

/// A measurement at so many seconds after the start.
func measurement(_ second: Double, cpu: Int64? = nil, memory: Int64? = 4096) -> Measurement {
  var figures = CgroupFigures()
  figures.cpuMicroseconds = cpu
  figures.memoryBytes = memory
  return Measurement(
    time: Timestamp(nanoseconds: 1_800_000_000_000_000_000 + Int64(second * 1e9)), clock: Int64(second * 1e9) + 77,
    figures: figures)
}

extension MetricSeries.Chunk {
  var samples: [MetricSample] {
    lines.split(separator: UInt8(ascii: "\n")).compactMap {
      try? JSONDecoder().decode(MetricSample.self, from: Data($0))
    }
  }
}

/// What a file of samples holds after some changes.
func file(_ changes: [MetricSeries.FileChange]) -> [UInt8] {
  changes.reduce(into: []) { file, change in
    switch change {
    case .append(let bytes): file += bytes
    case .replace(let bytes): file = bytes
    }
  }
}

func reread(_ bytes: [UInt8]) throws -> MetricSeries { try bytes.withUnsafeBytes { try MetricSeries(file: $0) } }

@Suite struct MetricSeriesTests {
  @Test func samplesCountFromOneAndSayWhatWasMeasured() throws {
    var series = MetricSeries()
    var full = measurement(5, cpu: 2_500_000)
    full.figures.memoryPeakBytes = 8192
    full.figures.ioReadBytes = 1
    full.figures.ioWrittenBytes = 2
    full.figures.ioReads = 3
    full.figures.ioWrites = 4
    full.figures.pids = 5
    full.figures.cpuPressure = 0.5
    full.figures.memoryPressure = 0
    full.figures.ioPressure = 12.34
    full.network = NetworkCounters(receivedBytes: 6, sentBytes: 7)
    series.start(clock: 77)
    _ = series.add(full)
    _ = series.add(measurement(10, cpu: nil, memory: nil))
    let sent = series.nextToSend()
    let chunk = try #require(sent)
    #expect(chunk.firstSeq == 1 && chunk.count == 2 && chunk.time == measurement(10).time)
    let lines = String(decoding: chunk.lines, as: UTF8.self).split(separator: "\n")
    #expect(
      lines.first == """
        {"seq":1,"ts":"\(full.time)","cpu_percent":50.0,"cpu_usec":2500000,"memory_bytes":4096,"memory_peak_bytes":8192,\
        "io_read_bytes":1,"io_write_bytes":2,"io_read_ops":3,"io_write_ops":4,"net_rx_bytes":6,"net_tx_bytes":7,"pids":5,\
        "psi_cpu":0.5,"psi_memory":0.0,"psi_io":12.34}
        """)
    #expect(lines.last == "{\"seq\":2,\"ts\":\"\(measurement(10).time)\"}", "what is not measured is absent, never 0")
  }

  @Test func cpuPercentIsOfTheTimeSinceTheSampleBefore() throws {
    var series = MetricSeries()
    _ = series.add(measurement(5, cpu: 1_000_000))  // adopted without its start: nothing to count from
    _ = series.add(measurement(10, cpu: 11_000_000))
    _ = series.add(measurement(15, cpu: nil))
    _ = series.add(measurement(20, cpu: 11_500_000))  // the one before was not measured
    _ = series.add(measurement(20, cpu: 11_600_000))  // no time has passed
    _ = series.add(measurement(25, cpu: 10_000_000))  // a counter that ran back says nothing
    _ = series.add(measurement(35, cpu: 10_012_345))
    let sent = series.nextToSend()
    let samples = try #require(sent).samples
    #expect(samples.map(\.cpuPercent) == [nil, 200, nil, nil, nil, nil, 0.12])
  }

  @Test func whatIsNotAcknowledgedGoesOutAgain() throws {
    var series = MetricSeries()
    for second in 1...3 { _ = series.add(measurement(Double(second))) }
    same(series.nextToSend()?.count, 3)
    same(series.nextToSend(), nil)
    holds(series.isSent && !series.isAcknowledged)
    series.acknowledge(2)
    series.rewind()
    same(series.nextToSend()?.firstSeq, 3)
    // More than was sent can't be acknowledged.
    _ = series.add(measurement(4))
    series.acknowledge(99)
    same(series.ackedSeq, 3)
    same(series.nextToSend()?.firstSeq, 4)
    series.acknowledge(4)
    holds(series.isAcknowledged)
  }

  @Test func chunksAreBounded() throws {
    var series = MetricSeries()
    for second in 1...700 { _ = series.add(measurement(Double(second * 5), cpu: Int64(second))) }
    var next: UInt64 = 1
    while let chunk = series.nextToSend() {
      #expect(chunk.firstSeq == next && chunk.lines.count <= 64 << 10)
      #expect(chunk.samples.map(\.seq) == Array(next..<(next + UInt64(chunk.count))))
      next += UInt64(chunk.count)
    }
    #expect(next == 701)
  }

  @Test func followersReadWhatIsThereAndAreToldWhatIsNot() throws {
    var series = MetricSeries()
    same(series.read(after: 0, maxBytes: 1000), .nothing)
    for second in 1...20 { _ = series.add(measurement(Double(second))) }
    guard case .chunk(let first) = series.read(after: 0, maxBytes: 1) else { throw RingFault.badStream(0) }
    #expect(first.count == 1 && first.firstSeq == 1, "one at least")
    guard case .chunk(let rest) = series.read(after: 18, maxBytes: 1 << 20) else { throw RingFault.badStream(0) }
    #expect(rest.samples.map(\.seq) == [19, 20])
    _ = series.nextToSend()
    series.acknowledge(20)
    same(series.read(after: 0, maxBytes: 1000), .behind(oldest: 17))
    guard case .chunk(let kept) = series.read(after: 16, maxBytes: 1 << 20) else { throw RingFault.badStream(0) }
    #expect(kept.samples.map(\.seq) == [17, 18, 19, 20], "the newest stay")
    same(series.read(after: 20, maxBytes: 1000), .nothing)
    same(series.read(after: .max, maxBytes: 1000), .nothing)
  }

  @Test func withoutAStoreOnlyTheNewestStay() throws {
    var series = MetricSeries()
    for second in 1...10 {
      _ = series.add(measurement(Double(second)))
      series.letGo()
    }
    same(series.nextToSend(), nil)
    same(series.read(after: 0, maxBytes: 1000), .behind(oldest: 7))
    holds(series.isAcknowledged)
  }

  /// An hour of a persist that is away, whatever the interval, loses nothing; then the oldest go, and it is said.
  @Test(arguments: [0.1, 1, 5, 60])
  func anHourIsKept(interval: Double) {
    var series = MetricSeries()
    var lost: [UInt64] = []
    var second = 0.0
    func run(until end: Double) {
      while second < end {
        second += interval
        let next = measurement(second)
        guard series.wants(clock: next.clock) else { continue }
        if let range = series.add(next).lost { lost += Array(range) }
      }
    }
    run(until: 3600)
    #expect(lost == [])
    run(until: 3600 * 24)
    #expect(!lost.isEmpty)
    #expect(lost == Array(1...UInt64(max(lost.count, 1))), "the oldest first, each once")
    same(series.nextToSend()?.firstSeq, UInt64(lost.count) + 1)
  }

  // MARK: The file

  @Test func aRestartedExecGoesOnWithTheRightNumber() throws {
    var series = MetricSeries()
    var changes: [MetricSeries.FileChange] = []
    for second in 1...7 {
      changes.append(series.add(measurement(Double(second * 5), cpu: Int64(second) * 1_000_000)).change)
    }
    var next = try reread(file(changes))
    #expect(next.lastSeq == 7)
    same(next.nextToSend()?.samples.map(\.seq), Array(1...7))
    next.acknowledge(7)
    _ = next.add(measurement(40, cpu: 12_000_000))
    let sent = next.nextToSend()
    let chunk = try #require(sent)
    #expect(chunk.samples.map(\.seq) == [8])
    #expect(chunk.samples.first?.cpuPercent == 100, "the clock goes on across the restart")
  }

  @Test func theFileStaysSmallAndNeverForgetsTheNumber() throws {
    var series = MetricSeries()
    var bytes: [UInt8] = []
    for second in 1...10_000 {
      switch series.add(measurement(Double(second), cpu: Int64(second))).change {
      case .append(let line): bytes += line
      case .replace(let whole): bytes = whole
      }
      _ = series.nextToSend()
      series.acknowledge(UInt64(second))
      if second % 97 == 0 {
        let again = try reread(bytes)
        #expect(again.lastSeq == UInt64(second))
      }
      #expect(bytes.count < 16 << 10)
    }
  }

  /// Killed in the middle of writing a line: it was not shown to anyone, so its number is free.
  @Test func halfALastLineIsCut() throws {
    var series = MetricSeries()
    let changes = (1...3).map { series.add(measurement(Double($0), cpu: Int64($0))).change }
    let whole = file(changes)
    let two = file(Array(changes.prefix(2)))
    for length in two.count..<whole.count {
      var next = try reread(Array(whole.prefix(length)))
      #expect(next.lastSeq == 2)
      // The half line must not stand before the next one.
      let change = next.add(measurement(9)).change
      guard length > two.count else { continue }
      guard case .replace(let bytes) = change else {
        Issue.record("the torn line stays")
        return
      }
      let again = try reread(bytes)
      #expect(again.lastSeq == 3)
    }
  }

  @Test func aFailedWriteIsMadeUpFor() throws {
    var series = MetricSeries()
    let first = series.add(measurement(1)).change
    _ = series.add(measurement(2))
    series.fileFailed()
    let third = series.add(measurement(3)).change
    let again = try reread(file([first, third]))
    #expect(again.lastSeq == 3)
  }

  @Test(arguments: [
    "x\n", "1 {\"seq\":1}\n", "{\"seq\":1,\"ts\":\"2026-11-22T01:02:03.000000000Z\"}\n",
    "5 {\"seq\":0,\"ts\":\"2026-11-22T01:02:03.000000000Z\"}\n",
    "5 {\"seq\":2,\"ts\":\"2026-11-22T01:02:03.000000000Z\"}\n5 {\"seq\":4,\"ts\":\"2026-11-22T01:02:03.000000000Z\"}\n",
    "5 {\"seq\":1,\"ts\":\"2026-13-22T01:02:03.000000000Z\"}\n", "\n", "5 {\"seq\":1,\"ts\":\"2026\n",
  ])
  func whatIsNoFileOfSamplesIsNotBelieved(text: String) {
    #expect(throws: MetricFileDamage.self) { try reread(Array(text.utf8)) }
  }

  @Test func noiseIsRefusedOrRead() throws {
    var generator = SeededGenerator(state: 9)
    var series = MetricSeries()
    let whole = file((1...5).map { series.add(measurement(Double($0), cpu: Int64($0))).change })
    var refused = 0
    for _ in 0..<5000 {
      var bytes = whole
      for _ in 0..<Int.random(in: 1...4, using: &generator) {
        bytes[Int.random(in: 0..<bytes.count, using: &generator)] = UInt8.random(in: 0...255, using: &generator)
      }
      do {
        var next = try reread(bytes)
        let last = next.lastSeq
        _ = next.add(measurement(99))
        #expect(next.lastSeq == last + 1)
      } catch is MetricFileDamage { refused += 1 }
    }
    #expect(refused > 100)
  }
}
