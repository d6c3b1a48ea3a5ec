import FoundationEssentials
import JobletModel
import LogStore

// What is asked: the JSON of the query socket, and the parameters of a request at the gateway. What can be read keeps its
// meaning, and a log query's answer is checked against its own conditions, line by line.

private let job = JobID(high: 0x0190_0000_0000_7000, low: 0x8000_0000_0000_0001)
private let lineCount: UInt64 = 300
private let store = makeStore()

@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ data: UnsafePointer<UInt8>?, _ size: Int) -> CInt {
  let bytes = UnsafeRawBufferPointer(start: data, count: size)
  let json = Data(bytes)
  roundTrip(MetricQuery.self, json)
  roundTrip(RecordQuery.self, json)
  roundTrip(LogQuery.self, json)
  if let query = try? JSONDecoder().decode(LogQuery.self, from: json) { ask(query) }
  if let query = try? JSONDecoder().decode(MetricQuery.self, from: json) { ask(query) }
  if let query = try? JSONDecoder().decode(RecordQuery.self, from: json) { ask(query) }
  let text = String(decoding: bytes, as: UTF8.self)
  if let time = TimeText.parse(text, now: time(lineCount)) {
    require(TimeText.parse(time.description) == time, "'\(text)' is \(time), which is read as another time")
  }
  target(text)
  return 0
}

private func roundTrip<Query: Codable & Equatable>(_ type: Query.Type, _ json: Data) {
  guard let query = try? JSONDecoder().decode(type, from: json) else { return }
  do {
    let again = try JSONDecoder().decode(type, from: JSONEncoder().encode(query))
    require(again == query, "\(query) becomes \(again)")
  } catch {
    fatalError("\(query) can't be written and read: \(error)")
  }
}

/// Line `seq` as it was written: two streams, times that rise, text with a field that filters find.
private func text(_ seq: UInt64) -> String { "line \(seq) of \"three\" hundred\t\(seq % 7 == 0 ? "needle" : "hay")" }
private func stream(_ seq: UInt64) -> LogStream { seq % 3 == 0 ? .stderr : .stdout }
private func time(_ seq: UInt64) -> Timestamp { Timestamp(nanoseconds: Int64(seq) * 1_000_000_000) }

/// Sample `seq`, for every third second of the lines' time.
private func sample(_ seq: UInt64) -> MetricSample {
  var sample = MetricSample(seq: seq, ts: time(seq * 3))
  sample.cpuPercent = Double(seq % 101) / 2
  if seq % 2 == 0 { sample.memoryBytes = Int64(seq << 20) }
  return sample
}
private let sampleCount = lineCount / 3

private func makeStore() -> MemoryLogStore {
  let store = MemoryLogStore()
  do {
    for seq in 1...sampleCount {
      let chunk = try bytes(sample(seq).line).withUnsafeBytes {
        LogChunk(try StoredChunkInfo(metrics: $0, firstSeq: seq, count: 1), copying: $0)
      }
      try store.append([chunk], job: job, stream: .metrics)
    }
    for seq in 1...lineCount {
      let info = LogChunkInfo(stream: stream(seq), firstSeq: seq, count: 1, timestamp: time(seq), isPartial: false)
      let chunk = bytes(text(seq) + "\n").withUnsafeBytes { LogChunk(info, copying: $0) }
      try store.append([chunk], job: job, stream: StoredStream(stream(seq)))
    }
  } catch {
    fatalError("the store in memory: \(error)")
  }
  return store
}

private func ask(_ query: LogQuery) {
  var query = query
  query.job = job
  var answer: [UInt64] = []
  do {
    let scanner = try LogScanner(query) { stream, range, order in [try store.pages(job, stream, range, order)] }
    var steps = 0
    scan: while true {
      steps += 1
      require(steps < 10_000, "a query of \(lineCount) lines does not end")
      switch try scanner.next() {
      case .lines(let first, let count, let bytes):
        let lines = bytes.split(separator: 0x0A)
        require(lines.count == count, "\(count) lines are said, \(lines.count) are there")
        for (index, line) in lines.enumerated() {
          guard let seq = number(line) else { fatalError("no line: \(String(decoding: line, as: UTF8.self))") }
          if index == 0 { require(seq == first, "the first line is \(seq), not \(first)") }
          answer.append(seq)
        }
      case .gap(let first, let last): fatalError("a gap from \(first) to \(last) where nothing is damaged")
      case .working: continue
      case .end: break scan
      }
    }
  } catch {
    require(!"\(error)".isEmpty, "a refusal without a reason")
    return
  }
  check(answer, query)
}

/// One line of an aggregate's answer.
private struct AggregateLine: Decodable {
  var ts: Timestamp
  var aggregate: String
  var samples: Int
  var cpu_percent: Double?
  var memory_bytes: Double?
}

private func ask(_ query: MetricQuery) {
  var query = query
  query.job = job
  var answer: [Data] = []
  do {
    let scanner = try MetricScanner(query) { stream, range, order in [try store.pages(job, stream, range, order)] }
    var steps = 0
    scan: while true {
      steps += 1
      require(steps < 10_000, "a query of \(sampleCount) samples does not end")
      switch try scanner.next() {
      case .lines(_, let count, let bytes):
        let lines = bytes.split(separator: 0x0A).map { Data($0) }
        require(lines.count == count, "\(count) lines are said, \(lines.count) are there")
        answer += lines
      case .gap(let first, let last): fatalError("a gap from \(first) to \(last) where nothing is damaged")
      case .working: continue
      case .end: break scan
      }
    }
  } catch {
    require(!"\(error)".isEmpty, "a refusal without a reason")
    return
  }
  let samples = (1...sampleCount).map(sample).filter { sample in
    sample.seq > query.after && (query.since.map { sample.ts >= $0 } ?? true)
      && (query.until.map { sample.ts <= $0 } ?? true)
  }
  guard query.aggregate != nil else { return check(answer, samples, query) }
  do {
    let lines = try answer.map { try JSONDecoder().decode(AggregateLine.self, from: $0) }
    require(lines.count <= query.limit ?? .max, "more lines than \(query) wants")
    let total = lines.reduce(0) { $0 + $1.samples }
    let isWhole = query.limit == nil && query.offset ?? 0 == 0
    require(
      isWhole ? total == samples.count : total <= samples.count, "\(total) samples of \(samples.count) in \(query)")
    for line in lines {
      require(line.aggregate == query.aggregate?.rawValue && line.samples > 0, "\(line) answers \(query)")
      let most = query.aggregate == .sum ? 50.0 * Double(sampleCount) : 50
      require(line.cpu_percent.map { $0 >= 0 && $0 <= most } ?? true, "\(line) is out of its samples' range")
    }
  } catch {
    fatalError("\(query) gives no JSON: \(error)")
  }
}

/// Samples as they are stored: those lines and no others.
private func check(_ answer: [Data], _ samples: [MetricSample], _ query: MetricQuery) {
  var wanted = samples.map { Data(bytes($0.line).dropLast()) }
  if query.order == .descending { wanted.reverse() }
  if let offset = query.offset { wanted = Array(wanted.dropFirst(offset)) }
  if let limit = query.limit { wanted = Array(wanted.prefix(limit)) }
  require(answer == wanted, "\(query) gives \(answer.count) samples, not \(wanted.count)")
}

/// The text search against the obvious way to do it.
private func ask(_ query: RecordQuery) {
  guard (try? query.check()) != nil, let text = query.text else { return }
  let whole = "Needle in a HAYstack\n\u{e9}\u{65e5}=1 \0"
  let plain = contains(bytes(ASCIIText.lowercased(whole)), bytes(ASCIIText.lowercased(text)))
  require(ASCIIText.contains(whole, text) == plain, "'\(text)' is found or not")
}

/// The answer found the slow way, where no regular expression is asked for; with one, what can be said of it.
private func check(_ answer: [UInt64], _ query: LogQuery) {
  var wanted = (1...lineCount).filter { seq in
    seq > query.after && seq <= query.through ?? .max && (query.stream.map { $0 == stream(seq).name } ?? true)
      && (query.since.map { time(seq) >= $0 } ?? true) && (query.until.map { time(seq) <= $0 } ?? true)
      && (query.filter.map { contains(bytes(text(seq)), bytes($0)) } ?? true)
  }
  let isDescending = query.order == .descending
  if query.regex ?? "" != "" {
    let allowed = Set(wanted)
    require(answer.allSatisfy { allowed.contains($0) }, "a line that does not meet \(query)")
    require(zip(answer, answer.dropFirst()).allSatisfy { isDescending ? $0 > $1 : $0 < $1 }, "\(query): out of order")
    for bound in [query.limit, query.tail] { require(answer.count <= bound ?? .max, "more lines than \(query) wants") }
    return
  }
  if let tail = query.tail { wanted = wanted.suffix(tail) }
  if isDescending { wanted.reverse() }
  if let offset = query.offset { wanted = Array(wanted.dropFirst(offset)) }
  if let limit = query.limit { wanted = Array(wanted.prefix(limit)) }
  require(
    answer == wanted,
    "\(query) gives \(answer.count) lines \(answer.prefix(5)), not \(wanted.count) \(wanted.prefix(5))")
}

private func contains(_ text: [UInt8], _ part: [UInt8]) -> Bool {
  part.isEmpty || text.indices.contains { text[$0...].starts(with: part) }
}

private func number(_ line: Slice<UnsafeRawBufferPointer>) -> UInt64? {
  UInt64(String(decoding: line.dropFirst(7).prefix { $0 != 0x2C }, as: UTF8.self))
}

/// A request's target: read, written as strictly as can be, and read again as the same.
private func target(_ text: String) {
  guard let target = try? RequestTarget(text) else { return }
  require(!target.segments.contains { $0 == "." || $0 == ".." }, "\(target) climbs")
  require(Set(target.query.map(\.name)).count == target.query.count, "\(target) has a name twice")
  func escape(_ text: String) -> String {
    text.utf8.map { "%" + String($0 >> 4, radix: 16) + String($0 & 15, radix: 16) }.joined()
  }
  var again = target.segments.map { "/" + escape($0) }.joined()
  if !target.query.isEmpty {
    again += "?" + target.query.map { escape($0.name) + "=" + escape($0.value) }.joined(separator: "&")
  }
  if again.utf8.count <= RequestTarget.maxLength {
    guard let second = try? RequestTarget(again) else { fatalError("\(target) can't be read again as \(again)") }
    require(second == target, "\(target) becomes \(second)")
  }
  parameters(target)
}

private func parameters(_ target: RequestTarget) {
  refusing { () throws(Problem) in
    let logs = try LogParameters(target, lastEventID: nil, now: time(lineCount))
    require(logs.limit.map { StreamQuery.limitRange.contains($0) } ?? true, "limit: \(logs)")
    require(logs.tail.map { LogParameters.tailRange.contains($0) } ?? true, "tail: \(logs)")
    for text in [logs.filter, logs.regex] {
      require(text.map { (1...LogParameters.maxFilterBytes).contains($0.utf8.count) } ?? true, "\(logs)")
    }
  }
  refusing { () throws(Problem) in
    let metrics = try MetricParameters(target, lastEventID: nil, now: time(lineCount))
    require(metrics.offset.map { StreamQuery.offsetRange.contains($0) } ?? true, "offset: \(metrics)")
    require(metrics.interval.map { MetricParameters.intervalRange.contains($0) } ?? true, "interval: \(metrics)")
    require(metrics.aggregate != nil || metrics.interval == nil, "an interval of nothing: \(metrics)")
  }
  refusing { () throws(Problem) in
    let list = try ListParameters.query(target, now: time(lineCount))
    try list.check()
    if let before = list.before { require(Cursor.decode(Cursor.encode(before)) == before, "cursor \(before)") }
  }
}

private func refusing(_ body: () throws(Problem) -> Void) {
  do throws(Problem) {
    try body()
  } catch {
    require(!error.detail.isEmpty, "a refusal without a reason")
  }
}

func seeds() -> [[UInt8]] {
  [
    "{\"job\":\"\(job)\",\"after\":0}",
    "{\"job\":\"\(job)\",\"after\":17,\"through\":200,\"stream\":\"stdout\",\"filter\":\"needle\",\"tail\":5}",
    "{\"job\":\"\(job)\",\"after\":1,\"since\":\"1970-01-01T00:01:00Z\",\"until\":\"1970-01-01T00:04:00.5+00:00\",\"limit\":9,\"offset\":2}",
    "{\"job\":\"\(job)\",\"after\":0,\"order\":\"desc\",\"limit\":10,\"regex\":\"^line [0-9]+(5|6) \"}",
    "{\"job\":\"\(job)\",\"after\":0,\"through_seq\":18446744073709551615,\"regex\":\"(a+)+$\"}",
    "{\"job\":\"\(job)\",\"after\":0,\"aggregate\":\"p95\",\"interval_ms\":60000,\"limit\":9}",
    "{\"job\":\"\(job)\",\"after\":9,\"order\":\"desc\",\"aggregate\":\"sum\",\"since\":\"1970-01-01T00:01:00Z\"}",
    "{\"text\":\"HAYS\",\"limit\":7}", "1795309200.5", "90m",
    "{\"statuses\":[\"RUNNING\",\"FAILED\"],\"since\":\"2026-01-01T00:00:00Z\",\"text\":\"build\",\"before\":\"\(job)\",\"limit\":100}",
    "/v1/jobs/\(job)/logs?follow=true&stream=stderr&after=7&filter=a%20b",
    "/v1/jobs/\(job)/logs?since=1h&until=2026-11-21T20:15:55.5Z&tail=100&limit=7&order=desc&regex=%5Ea&offset=3",
    "/v1/jobs/\(job)/metrics?aggregate=avg&interval=1m&since=now&until=1700000000.5",
    "/v1/jobs?status=RUNNING,FAILED&q=build&since=7d&limit=100&cursor=\(Cursor.encode(job))",
  ].map(bytes)
}
