import BenchmarkKit
import FoundationEssentials
import JobletModel
import JobletWire

#if canImport(Glibc)
  import Glibc
#endif

/// Jobs that write to persist, seen as exec sees them: on one connection, in turn, each with a ring of lines that are kept
/// until they are acknowledged; after a break everything above the last acknowledgement is sent anew.
final class Writer {
  struct Job {
    var number: Int
    var id: JobID
    /// Lines it writes in all.
    var total: UInt64
    /// The next line to send.
    var next: UInt64 = 1
    var acknowledged: UInt64 = 0
    var samples = Counter()
    var record = Counter()
    var isEndSent = false
    var isEnded = false

    /// A counter beside that of the lines.
    struct Counter {
      var next: UInt64 = 1
      var acknowledged: UInt64 = 0
    }
  }
  private(set) var jobs: [Job]
  /// Breaks of the connection that were mended.
  private(set) var reconnects = 0
  /// Lines of a frame at most.
  var chunk = Lines.chunk
  /// What a ring holds: `ipc.buffer_size` lines of a job wait for their acknowledgement at most.
  var ring: UInt64 = 10_000
  /// The last line a job may have written by now.
  var written: () -> UInt64 = { .max }
  /// The last metrics sample a job has taken by now, and the version of its record.
  var sampled: () -> UInt64 = { 0 }
  var recorded: () -> UInt64 = { 0 }
  var timestamp: (UInt64) -> Timestamp = Lines.timestamp
  /// Lines made before the clock ran, `total` for each job; without it they are made as they are sent.
  var memory: UnsafeRawBufferPointer?
  private let path: String
  private var places: [JobID: Int] = [:]
  private var socket: FrameSocket?
  private var isGreeted = false
  private var turn = 0
  // The frame under way.
  private var header = [UInt8](repeating: 0, count: FrameHeader.byteCount)
  private var scratch: UnsafeMutableRawBufferPointer
  private var payload = UnsafeRawBufferPointer(start: nil, count: 0)
  private var offset: Int?

  init(_ path: String, jobs count: Int, lines: UInt64) {
    self.path = path
    jobs = (0..<count).map { Job(number: $0, id: Lines.job($0), total: lines) }
    for (place, job) in jobs.enumerated() { places[job.id] = place }
    scratch = .allocate(byteCount: Lines.length * 10_000, alignment: 16)
  }

  deinit { scratch.deallocate() }

  /// Everything is written and acknowledged, the ends included.
  var isDone: Bool {
    jobs.allSatisfy { $0.isEnded && $0.samples.acknowledged >= sampled() && $0.record.acknowledged >= recorded() }
  }
  var acknowledgedLines: UInt64 { jobs.reduce(0) { $0 + $1.acknowledged } }

  /// Ends every job behind the last line that it wrote so far.
  func finish() {
    for place in jobs.indices { jobs[place].total = jobs[place].next - 1 }
  }

  /// Writes until `isDone` says so; `tick` is called about every millisecond or more often.
  func run(until isDone: () throws -> Bool, tick: () throws -> Void = {}) throws {
    while true {
      try tick()
      if try isDone() { return }
      guard let socket = connection() else {
        usleep(2000)
        continue
      }
      let hasFrame = offset != nil || nextFrame()
      let ready = socket.wait(writing: hasFrame, milliseconds: 1)
      if ready.canRead, try !socket.receive(blocks: false, take) {
        lost()
        continue
      }
      if hasFrame, ready.canWrite { push(socket) }
    }
  }

  private func connection() -> FrameSocket? {
    if let socket { return socket }
    do {
      let new = try FrameSocket(path)
      try new.send(FrameHeader(.hello), Array(JSONEncoder().encode(Hello(software: "persist-benchmark"))))
      socket = new
      return new
    } catch {
      return nil  // nobody listens at the moment: it is tried again
    }
  }

  private func lost() {
    socket = nil
    offset = nil
    isGreeted = false
    reconnects += 1
    for place in jobs.indices {
      jobs[place].next = jobs[place].acknowledged + 1
      jobs[place].samples.next = jobs[place].samples.acknowledged + 1
      jobs[place].record.next = jobs[place].record.acknowledged + 1
      jobs[place].isEndSent = jobs[place].isEnded
    }
  }

  private func take(_ header: FrameHeader, _ payload: UnsafeRawBufferPointer) throws {
    switch header.type {
    case .hello: isGreeted = true
    case .condition: break
    case .ack:
      guard let place = places[header.job], let kind = AckKind(rawValue: header.stream) else {
        throw BenchmarkError("an acknowledgement for a job that does not write: \(header.job)")
      }
      switch kind {
      case .log:
        guard header.seq < jobs[place].next else {
          throw BenchmarkError("line \(header.seq) of job \(place) is acknowledged, but was not sent")
        }
        jobs[place].acknowledged = max(jobs[place].acknowledged, header.seq)
      case .metric: jobs[place].samples.acknowledged = try checked(header, jobs[place].samples)
      case .record: jobs[place].record.acknowledged = try checked(header, jobs[place].record)
      case .end: jobs[place].isEnded = true
      case .delete: throw BenchmarkError("job \(place) is said to be deleted")
      }
    default:
      throw BenchmarkError("persist sent '\(header.type)': \(String(decoding: payload.prefix(500), as: UTF8.self))")
    }
  }

  private func checked(_ ack: FrameHeader, _ counter: Job.Counter) throws -> UInt64 {
    guard ack.seq < counter.next else {
      throw BenchmarkError("number \(ack.seq) of job \(ack.job) is acknowledged, but was not sent")
    }
    return max(counter.acknowledged, ack.seq)
  }

  /// Makes the next frame, of the next job that has something to send. False if none has.
  private func nextFrame() -> Bool {
    guard isGreeted else { return false }
    let written = written()
    let sampled = sampled()
    let recorded = recorded()
    for _ in jobs.indices {
      let place = turn
      turn = turn + 1 == jobs.count ? 0 : turn + 1
      let job = jobs[place]
      let last = min(job.total, written, job.acknowledged + ring)
      if job.next <= last {
        // A frame ends where a chunk does, whatever was sent before it: all its lines have one time.
        let count = min(UInt64(chunk) - (job.next - 1) % UInt64(chunk), last - job.next + 1)
        make(place, count)
        return true
      }
      if job.samples.next <= sampled {
        makeSamples(place, through: min(sampled, job.samples.next + 99))
        return true
      }
      if job.record.next <= recorded, makeRecord(place, version: recorded) { return true }
      if job.next > job.total, !job.isEndSent {
        jobs[place].isEndSent = true
        begin(FrameHeader(.end, job: job.id, seq: job.total), UnsafeRawBufferPointer(start: nil, count: 0))
        return true
      }
    }
    return false
  }

  private func make(_ place: Int, _ count: UInt64) {
    let job = jobs[place]
    let length = Int(count) * Lines.length
    if let memory {
      let from = (UInt64(place) * job.total + job.next - 1) * UInt64(Lines.length)
      payload = UnsafeRawBufferPointer(rebasing: memory[Int(from)..<(Int(from) + length)])
    } else {
      let out = UnsafeMutableRawBufferPointer(rebasing: scratch[..<length])
      Lines.fill(out, job.number, from: job.next)
      payload = UnsafeRawBufferPointer(out)
    }
    let info = LogChunkInfo(
      stream: .stdout, firstSeq: job.next, count: UInt32(count), timestamp: timestamp(job.next), isPartial: false)
    begin(FrameHeader(job: job.id, chunk: info, length: UInt32(length)), payload)
    jobs[place].next += count
  }

  private func makeSamples(_ place: Int, through last: UInt64) {
    let first = jobs[place].samples.next
    let lines = (first...last).map { Lines.sample($0).line }.joined()
    let header = FrameHeader(
      .metric, job: jobs[place].id, seq: first, timestamp: Lines.sample(last).ts, count: UInt32(last - first + 1))
    begin(header, copying: Array(lines.utf8))
    jobs[place].samples.next = last + 1
  }

  /// A record is the whole of a job's state: only the newest version goes out. False if it can't be written as JSON.
  private func makeRecord(_ place: Int, version: UInt64) -> Bool {
    guard let json = try? JSONEncoder().encode(Lines.record(jobs[place].number, version: version)) else { return false }
    begin(FrameHeader(.record, job: jobs[place].id, seq: version, timestamp: .now()), copying: Array(json))
    jobs[place].record.next = version + 1
    return true
  }

  private func begin(_ frame: FrameHeader, copying bytes: [UInt8]) {
    scratch.copyBytes(from: bytes)
    var frame = frame
    frame.length = UInt32(bytes.count)
    begin(frame, UnsafeRawBufferPointer(rebasing: scratch[..<bytes.count]))
  }

  private func begin(_ frame: FrameHeader, _ payload: UnsafeRawBufferPointer) {
    header.withUnsafeMutableBytes { frame.encode(into: $0) }
    self.payload = payload
    offset = 0
  }

  /// Sends frames as long as the socket takes them, but not for ever: acknowledgements want to be read.
  private func push(_ socket: FrameSocket) {
    for _ in 0..<64 {
      guard let from = offset else {
        if nextFrame() { continue } else { return }
      }
      guard let count = header.withUnsafeBytes({ socket.send($0, payload, from: from) }) else { return lost() }
      if count == 0 { return }
      offset = from + count == header.count + payload.count ? nil : from + count
    }
  }
}
