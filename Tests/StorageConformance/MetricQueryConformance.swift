import JobletModel
import LogStore
import Testing

/// Metric queries against a slow reference, over every backend, part of the samples still in memory.
@Suite struct MetricQueryConformance {
  static let job = LogStoreConformance.job

  /// Samples a second or so apart, fields coming and going, a clock that now and then runs back.
  static func samples(_ seed: UInt64, count: Int) -> [MetricSample] {
    var random = SeededNumbers(seed)
    var time: Int64 = 1_700_000_000_000_000_000
    return (1...UInt64(count)).map { seq in
      time += Int64.random(in: seq % 50 == 0 ? -3_000_000_000...0 : 200_000_000...1_500_000_000, using: &random)
      var sample = MetricSample(seq: seq, ts: Timestamp(nanoseconds: time))
      func sometimes() -> Bool { Int.random(in: 0..<4, using: &random) > 0 }
      if sometimes() { sample.cpuPercent = Double(Int.random(in: 0...40_000, using: &random)) / 100 }
      if sometimes() { sample.cpuUsec = Int64(seq) * 1_000_003 }
      if sometimes() { sample.memoryBytes = Int64.random(in: 0...(1 << 45), using: &random) }
      if sometimes() { sample.pids = Int64.random(in: 0...100, using: &random) }
      if seq % 100 < 20 { sample.psiIO = Double.random(in: 0...100, using: &random) }
      return sample
    }
  }

  static func chunks(_ samples: [MetricSample], _ random: inout SeededNumbers) throws -> [LogChunk] {
    var rest = samples[...]
    var chunks: [LogChunk] = []
    while let first = rest.first {
      let some = rest.prefix(Int.random(in: 1...9, using: &random))
      rest = rest.dropFirst(some.count)
      let bytes = Array(some.map(\.line).joined().utf8)
      chunks.append(
        try bytes.withUnsafeBytes {
          LogChunk(try StoredChunkInfo(metrics: $0, firstSeq: first.seq, count: UInt32(some.count)), copying: $0)
        })
    }
    return chunks
  }

  static func ask(_ store: any LogStore, _ waiting: [LogChunk], _ query: MetricQuery, batch: Int) throws -> String {
    let scanner = try MetricScanner(query, batchSize: batch) { stream, range, order in
      #expect(stream == .metrics)
      return [
        try store.pages(job, stream, range, order),
        ChunkPages(waiting, range: range, order: order, pageSize: 700),
      ]
    }
    var answer = ""
    while true {
      switch try scanner.next() {
      case .lines(let seq, let count, let bytes):
        let text = String(decoding: bytes, as: UTF8.self)
        #expect(text.split(separator: "\n").count == count && (seq == 0) == (query.aggregate != nil))
        answer += text
      case .gap(let first, let last): Issue.record("gap \(first)...\(last)")
      case .working: continue
      case .end: return answer
      }
    }
  }

  static func query(_ samples: [MetricSample], _ random: inout SeededNumbers) -> MetricQuery {
    var query = MetricQuery(job: job)
    func sometimes() -> Bool { Int.random(in: 0..<3, using: &random) == 0 }
    if sometimes() { query.after = UInt64.random(in: 0...UInt64(samples.count), using: &random) }
    if sometimes() { query.since = samples.randomElement(using: &random)?.ts }
    if sometimes() { query.until = samples.randomElement(using: &random)?.ts }
    if sometimes() { query.limit = Int.random(in: 0...20, using: &random) }
    if sometimes() { query.offset = Int.random(in: 0...10, using: &random) }
    if Bool.random(using: &random) { query.order = QueryOrder.allCases.randomElement(using: &random) }
    if Bool.random(using: &random) {
      query.aggregate = MetricAggregate.allCases.randomElement(using: &random)
      if Bool.random(using: &random) {
        query.intervalMilliseconds = [250, 1000, 7000, 60_000].randomElement(using: &random)
      }
    }
    return query
  }

  @Test(arguments: Backend.allCases, [1, 2] as [UInt64])
  func answersAsTheSlowWayDoes(backend: Backend, seed: UInt64) throws {
    let samples = Self.samples(seed, count: 700)
    var random = SeededNumbers(seed &+ 500)
    let chunks = try Self.chunks(samples, &random)
    try backend.withStore { store in
      let sealed = chunks.count * 3 / 4
      for start in stride(from: 0, to: sealed, by: 6) {
        try store.append(Array(chunks[start..<min(start + 6, sealed)]), job: Self.job, stream: .metrics)
      }
      let waiting = Array(chunks[(sealed - 5)...])
      for _ in 0..<300 {
        let query = Self.query(samples, &random)
        let answer = try Self.ask(store, waiting, query, batch: Int.random(in: 1...5000, using: &random))
        #expect(answer == MetricReference.answer(samples, query), "\(query)")
      }
    }
  }

  @Test func refusesNonsense() throws {
    var queries = [
      MetricQuery(job: Self.job, limit: -1), MetricQuery(job: Self.job, offset: -1),
      MetricQuery(job: Self.job, intervalMilliseconds: 1000),
    ]
    for interval in [0, -1, .min, .max] as [Int64] {
      queries.append(MetricQuery(job: Self.job, aggregate: .sum, intervalMilliseconds: interval))
    }
    for query in queries { #expect(throws: Problem.self) { _ = try MetricScanner(query) { _, _, _ in [] } } }
  }

  @Test func aPercentileOfTooManySamplesIsAProblem() throws {
    let store = MemoryLogStore()
    var seq: UInt64 = 1
    while seq <= 100_001 {
      let lines = (0..<1000).map { MetricSample(seq: seq + UInt64($0), ts: Timestamp(nanoseconds: Int64(seq))).line }
      let bytes = Array(lines.joined().utf8)
      let chunk = try bytes.withUnsafeBytes {
        LogChunk(try StoredChunkInfo(metrics: $0, firstSeq: seq, count: 1000), copying: $0)
      }
      try store.append([chunk], job: Self.job, stream: .metrics)
      seq += 1000
    }
    #expect(throws: Problem.self) {
      try Self.ask(store, [], MetricQuery(job: Self.job, aggregate: .p95), batch: 1 << 16)
    }
    let average = try Self.ask(store, [], MetricQuery(job: Self.job, aggregate: .average), batch: 1 << 16)
    #expect(average.contains("\"samples\":101000"))
  }

  /// Whatever a stored line looks like, a scan neither traps nor invents numbers.
  @Test func fuzzedLinesNeverTrap() throws {
    var random = SeededNumbers(31)
    let sample = Self.samples(3, count: 40)
    let good = Array(sample.map(\.line).joined().utf8)
    for round in 0..<2000 {
      var bytes = good
      for _ in 0..<Int.random(in: 1...6, using: &random) {
        bytes[Int.random(in: 0..<bytes.count, using: &random)] =
          round % 2 == 0
          ? UInt8.random(in: 0...255, using: &random) : Array("{}\",:0e-.\n9".utf8).randomElement(using: &random) ?? 0
      }
      let info = StoredChunkInfo(
        stream: .metrics, firstSeq: 1, count: 40, earliest: Timestamp(nanoseconds: .min),
        latest: Timestamp(nanoseconds: .max))
      let chunk = bytes.withUnsafeBytes { LogChunk(info, copying: $0) }
      var query = Self.query(sample, &random)
      query.aggregate = MetricAggregate.allCases.randomElement(using: &random)
      let scanner = try MetricScanner(query) { _, range, order in [ChunkPages([chunk], range: range, order: order)] }
      loop: while true {
        switch try scanner.next() {
        case .lines(_, _, let lines):
          for line in lines.split(separator: 0x0A) {
            #expect(line.first == UInt8(ascii: "{") && line.last == UInt8(ascii: "}"))
          }
        case .gap, .working: continue
        case .end: break loop
        }
      }
    }
  }
}

/// What a metric query must answer, computed with nothing but arithmetic over the samples.
enum MetricReference {
  static func answer(_ samples: [MetricSample], _ query: MetricQuery) -> String {
    var found = samples.filter { sample in
      sample.seq > query.after && (query.since.map { sample.ts >= $0 } ?? true)
        && (query.until.map { sample.ts <= $0 } ?? true)
    }
    if query.order == .descending { found.reverse() }
    var lines = found.map(\.line)
    if let aggregate = query.aggregate { lines = aggregated(found, aggregate, query.intervalMilliseconds) }
    lines = Array(lines.dropFirst(query.offset ?? 0))
    if let limit = query.limit { lines = Array(lines.prefix(limit)) }
    return lines.joined()
  }

  private static func aggregated(_ samples: [MetricSample], _ kind: MetricAggregate, _ interval: Int64?) -> [String] {
    var groups: [(start: Int64, samples: [MetricSample])] = []
    for sample in samples {
      let start = interval.map { sample.ts.nanoseconds / ($0 * 1_000_000) * ($0 * 1_000_000) } ?? 0
      if groups.last?.start != start { groups.append((start, [])) }
      groups[groups.count - 1].samples.append(sample)
    }
    return groups.map { group in
      let oldest = group.samples.min { $0.seq < $1.seq }?.ts
      let time = interval == nil ? oldest : Timestamp(nanoseconds: group.start)
      var line = "{\"ts\":\"\(time.map(\.description) ?? "")\",\"aggregate\":\"\(kind.rawValue)\""
      line += ",\"samples\":\(group.samples.count)"
      for (name, get) in fields {
        let values = group.samples.compactMap(get)
        guard let value = value(values, kind) else { continue }
        let isWhole = !["cpu_percent", "psi_io"].contains(name) && kind != .average
        line += ",\"\(name)\":" + (isWhole ? "\(Int64(value))" : "\(value)")
      }
      return line + "}\n"
    }
  }

  private static let fields: [(String, @Sendable (MetricSample) -> Double?)] = [
    ("cpu_percent", { $0.cpuPercent }), ("cpu_usec", { $0.cpuUsec.map(Double.init) }),
    ("memory_bytes", { $0.memoryBytes.map(Double.init) }), ("pids", { $0.pids.map(Double.init) }),
    ("psi_io", { $0.psiIO }),
  ]

  private static func value(_ values: [Double], _ kind: MetricAggregate) -> Double? {
    guard !values.isEmpty else { return nil }
    switch kind {
    case .average: return values.reduce(0, +) / Double(values.count)
    case .minimum: return values.min()
    case .maximum: return values.max()
    case .sum: return values.reduce(0, +)
    case .p95:
      return values.sorted().first { candidate in values.filter { $0 <= candidate }.count * 100 >= values.count * 95 }
    }
  }
}
