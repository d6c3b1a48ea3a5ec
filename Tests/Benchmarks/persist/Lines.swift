import JobletModel

/// The lines every part writes: a pure function of the job's number and the line's, so that whoever reads one back knows
/// what it must be. 100 bytes each, newline included, with fields that vary as those of real logs do.
enum Lines {
  static let length = 100
  /// Lines a chunk holds where a part does not say otherwise: about what one read of a full pipe gives.
  static let chunk = 600
  /// Text that about one line of 1,024 has.
  static let needle = "status=503"

  private static let template = Array(
    "0000000000 j000 INFO  ........... ................ status=200 bytes=000000 us=000000 trace=00000000".utf8)
  private static let levels = ["INFO ", "INFO ", "INFO ", "DEBUG", "WARN ", "INFO ", "INFO ", "ERROR"].map {
    Array($0.utf8)
  }
  private static let services = [
    "payments   ", "inventory  ", "gateway    ", "mailer     ", "search     ", "sessions   ", "thumbnails ",
    "billing    ",
  ].map { Array($0.utf8) }
  private static let requests = [
    "GET /v1/orders  ", "POST /v1/login  ", "GET /v1/items   ", "PUT /v1/basket  ", "GET /healthz    ",
    "DELETE /v1/token", "POST /v1/search ", "GET /static/logo",
  ].map { Array($0.utf8) }
  private static let digits = Array("0123456789abcdef".utf8)

  /// SplitMix64 (Steele, Lea, Flood 2014), seeded by the job and the line.
  @inline(__always)
  private static func random(_ job: Int, _ seq: UInt64) -> UInt64 {
    var value = (UInt64(job) &<< 40 ^ seq) &* 0x9E37_79B9_7F4A_7C15 &+ 0x4A4F_424C_4554_0001
    value = (value ^ (value >> 30)) &* 0xBF58_476D_1CE4_E5B9
    value = (value ^ (value >> 27)) &* 0x94D0_49BB_1331_11EB
    return value ^ (value >> 31)
  }

  /// Whether the line has ``needle``.
  static func hasNeedle(_ job: Int, _ seq: UInt64) -> Bool { random(job, seq) >> 54 == 0 }

  @inline(__always)
  private static func put(_ text: [UInt8], _ out: UnsafeMutablePointer<UInt8>, at position: Int) {
    text.withUnsafeBufferPointer { source in
      if let base = source.baseAddress { (out + position).update(from: base, count: source.count) }
    }
  }

  @inline(__always)
  private static func decimal(_ value: UInt64, _ count: Int, _ out: UnsafeMutablePointer<UInt8>, at position: Int) {
    var value = value
    var index = position + count
    while index > position {
      index -= 1
      out[index] = UInt8(truncatingIfNeeded: 0x30 &+ value % 10)
      value /= 10
    }
  }

  /// Writes the 100 bytes of one line.
  static func write(_ job: Int, _ seq: UInt64, to out: UnsafeMutablePointer<UInt8>) {
    let random = random(job, seq)
    put(template, out, at: 0)
    decimal(seq, 10, out, at: 0)
    decimal(UInt64(job), 3, out, at: 12)
    put(levels[Int(random & 7)], out, at: 16)
    put(services[Int(random >> 3 & 7)], out, at: 22)
    put(requests[Int(random >> 6 & 7)], out, at: 34)
    if random >> 54 == 0 { decimal(503, 3, out, at: 58) }
    decimal((random >> 9 & 0xFFFF) &* 7 % 1_000_000, 6, out, at: 68)
    decimal((random >> 25 & 0x1FFF) &* (random >> 38 & 15), 6, out, at: 78)
    var trace = random >> 20
    for index in 0..<8 {
      out[91 + index] = digits[Int(trace & 15)]
      trace >>= 4
    }
    out[99] = 0x0A
  }

  /// Fills `out` with the lines from `first` on.
  static func fill(_ out: UnsafeMutableRawBufferPointer, _ job: Int, from first: UInt64) {
    guard let base = out.baseAddress?.assumingMemoryBound(to: UInt8.self) else { return }
    for index in 0..<(out.count / length) { write(job, first + UInt64(index), to: base + index * length) }
  }

  /// The job of a number: the same one in every run.
  static func job(_ number: Int) -> JobID {
    JobID(now: start, node: 0xBE7C, random: UInt64(number) &* 0x9E37_79B9_7F4A_7C15)
  }

  /// When the first line of every job was "read": 2026-11-01T00:00:00Z.
  static let start = Timestamp(nanoseconds: 1_793_491_200 * 1_000_000_000)
  /// From one chunk's time to the next one's.
  static let chunkInterval: Int64 = 10_000_000

  /// The time of a line: that of its chunk, ten milliseconds after the one before.
  static func timestamp(_ seq: UInt64) -> Timestamp {
    Timestamp(nanoseconds: start.nanoseconds + Int64((seq - 1) / UInt64(chunk)) * chunkInterval)
  }

  /// A job's metrics sample, a second after the one before.
  static func sample(_ seq: UInt64) -> MetricSample {
    var sample = MetricSample(seq: seq, ts: Timestamp(nanoseconds: start.nanoseconds + Int64(seq) * 1_000_000_000))
    sample.cpuPercent = Double(seq % 400) / 4
    sample.memoryBytes = Int64(seq % 1000) << 20
    sample.pids = Int64(seq % 7) + 1
    return sample
  }

  /// A running job's record.
  static func record(_ number: Int, version: UInt64) -> JobRecord {
    var record = JobRecord(
      id: job(number), request: JobRequest(command: "/bin/true"), status: .running, createdAt: start,
      nodeID: "benchmark",
      owner: "benchmark")
    record.version = version
    return record
  }
}
