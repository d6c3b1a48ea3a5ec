import FoundationEssentials
import JobletModel
import JobletWire
import LogStore

// What arrives on the write socket: a stream of frames, and what is in them. The bytes are walked as a connection does it.

private let maxPayload = 4096

@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ data: UnsafePointer<UInt8>?, _ size: Int) -> CInt {
  var rest = UnsafeRawBufferPointer(start: data, count: size)
  while true {
    let frame: FrameHeader?
    do {
      frame = try FrameHeader.decode(rest, maxPayload: maxPayload)
    } catch {
      require(!error.description.isEmpty, "a refusal without a reason")
      return 0
    }
    guard let frame else {
      require(rest.count < FrameHeader.byteCount, "48 bytes are neither a header nor refused")
      return 0
    }
    require(Int(frame.length) <= maxPayload, "a frame of \(frame.length) bytes is over the limit")
    var again = [UInt8](repeating: 0, count: FrameHeader.byteCount)
    again.withUnsafeMutableBytes { frame.encode(into: $0) }
    require(again.elementsEqual(rest.prefix(FrameHeader.byteCount)), "\(frame) encodes to other bytes")
    let end = FrameHeader.byteCount + Int(frame.length)
    guard rest.count >= end else { return 0 }
    look(frame, UnsafeRawBufferPointer(rebasing: rest[FrameHeader.byteCount..<end]))
    rest = UnsafeRawBufferPointer(rebasing: rest[end...])
  }
}

private func look(_ frame: FrameHeader, _ payload: UnsafeRawBufferPointer) {
  switch frame.type {
  case .log: lookAtLines(frame, payload)
  case .metric: lookAtSamples(frame, payload)
  case .hello: roundTrip(Hello.self, payload)
  case .record: roundTrip(JobRecord.self, payload)
  case .condition: roundTrip(StoreCondition.self, payload)
  case .run: roundTrip(RunRequest.self, payload)
  case .stop: roundTrip(StopRequest.self, payload)
  case .deleteJob, .pause, .resume: roundTrip(Caller.self, payload)
  case .output, .metricOutput: roundTrip(OutputRequest.self, payload)
  case .outputState: roundTrip(OutputState.self, payload)
  case .problem: roundTrip(Problem.self, payload)
  default: break
  }
}

/// What can be read can be written, and read again as the same.
private func roundTrip<Message: Codable & Equatable>(_ type: Message.Type, _ payload: UnsafeRawBufferPointer) {
  guard let message = try? JSONDecoder().decode(type, from: Data(payload)) else { return }
  do {
    let again = try JSONDecoder().decode(type, from: JSONEncoder().encode(message))
    require(again == message, "\(message) becomes \(again)")
  } catch {
    fatalError("\(message) can't be written and read: \(error)")
  }
}

private func lookAtLines(_ frame: FrameHeader, _ payload: UnsafeRawBufferPointer) {
  let newlines = payload.count { $0 == 0x0A }
  require(LineCount.newlines(in: payload) == newlines, "the fast count of newlines is wrong")
  let lastEnd = payload.lastIndex(of: 0x0A).map { $0 + 1 } ?? 0
  require(LineCount.lastLineEnd(in: payload) == lastEnd, "the end of the last line is wrong")
  require(
    LineCount.length(ofLines: newlines, in: payload) == (newlines == 0 ? 0 : lastEnd), "the lines' length is wrong")
  guard let info = frame.chunk else { return }
  require(info.count >= 1 && info.firstSeq >= 1 && info.lastSeq >= info.firstSeq, "an impossible chunk: \(info)")
  guard LineCount.fault(info, payload) == nil else { return }
  require(
    info.isPartial ? newlines == 0 : newlines == Int(info.count), "a chunk of \(info.count) has \(newlines) lines")
  encode(info, payload, lines: info.isPartial ? 1 : newlines)
}

/// The chunk's JSON: a line a record, numbered, and each decodes to the bytes it was made of.
private func encode(_ info: LogChunkInfo, _ payload: UnsafeRawBufferPointer, lines: Int) {
  var encoder = LogLineEncoder()
  LogChunk(info, copying: payload).encode(into: &encoder)
  var position = 0
  var seq = info.firstSeq
  var rest = payload[...]
  let json = encoder.bytes
  while position < json.count {
    let end = (json[position...].firstIndex(of: 0x0A) ?? json.count - 1) + 1
    guard let line = try? JSONDecoder().decode(StoredLine.self, from: Data(json[position..<end])) else {
      fatalError("no JSON: \(String(decoding: json[position..<end], as: UTF8.self))")
    }
    let text = rest.prefix { $0 != 0x0A }
    rest = rest[min(text.endIndex + 1, rest.endIndex)...]
    require(line.seq == seq && line.ts == info.timestamp && line.stream == info.stream.name, "\(line) is another line")
    require((line.partial ?? false) == info.isPartial, "\(line) is partial or not")
    if let string = line.line {
      require(string.utf8.elementsEqual(text), "\(line) has another text")
    } else {
      require(line.b64.flatMap { Data(base64Encoded: $0) }.map { $0.elementsEqual(text) } ?? false, "\(line): base64")
    }
    seq += 1
    position = end
  }
  require(seq == info.firstSeq + UInt64(lines), "\(seq - info.firstSeq) JSON lines of \(lines)")
}

private struct StoredLine: Decodable {
  var seq: UInt64
  var ts: Timestamp
  var stream: String
  var partial: Bool?
  var line: String?
  var b64: String?
}

private func lookAtSamples(_ frame: FrameHeader, _ payload: UnsafeRawBufferPointer) {
  guard let info = try? StoredChunkInfo(metrics: payload, firstSeq: frame.seq, count: frame.count) else { return }
  require(payload.count { $0 == 0x0A } == Int(info.count), "\(info.count) samples in other lines")
  require(info.earliest <= info.latest, "\(info) begins after its end")
  require(info.firstSeq == frame.seq, "\(info) has another number")
}

func seeds() -> [[UInt8]] {
  let job = JobID(high: 0x0190_0000_0000_7000, low: 0x8000_0000_0000_0001)
  func frame(_ header: FrameHeader, _ payload: [UInt8] = []) -> [UInt8] {
    var header = header
    header.length = UInt32(payload.count)
    var head = [UInt8](repeating: 0, count: FrameHeader.byteCount)
    head.withUnsafeMutableBytes { header.encode(into: $0) }
    return head + payload
  }
  func json(_ value: some Encodable) -> [UInt8] { (try? Array(JSONEncoder().encode(value))) ?? [] }
  func log(_ text: [UInt8], count: UInt32, _ flags: FrameFlags = []) -> [UInt8] {
    frame(
      FrameHeader(.log, flags: flags, stream: 1, job: job, seq: 7, timestamp: .init(nanoseconds: 1), count: count), text
    )
  }
  let sample = bytes(MetricSample(seq: 7, ts: Timestamp(nanoseconds: 5)).line)
  let hello = frame(FrameHeader(.hello), json(Hello(software: "joblet-exec 1.0 pid 4711")))
  let lines = log(bytes("one\n\"two\"\\\n\n\tgrün\r\n"), count: 4)
  return [
    hello, lines, log([0xFF, 0x00, 0x0A], count: 1), log(bytes("name: "), count: 1, .partial),
    frame(FrameHeader(.metric, job: job, seq: 7, count: 1), sample), frame(FrameHeader(.end, job: job, seq: 9)),
    hello + lines + frame(FrameHeader(.end, job: job, seq: 10)),
    frame(FrameHeader(.condition), json(StoreCondition(acceptsJobs: false, reason: "full"))),
    frame(FrameHeader(.problem), json(Problem(.notFound, "there is no job"))),
    frame(FrameHeader(.output), json(OutputRequest(job: job, after: 3))),
    frame(FrameHeader(.outputState), json(OutputState(.behind, oldest: 4, acknowledged: 3))),
    frame(
      FrameHeader(.stop),
      bytes("{\"job\":\"\(job)\",\"caller\":{\"name\":\"a\",\"role\":\"admin\",\"request_id\":\"r\"}}")),
    frame(
      FrameHeader(.record, job: job, seq: 1),
      bytes("{\"id\":\"\(job)\",\"command\":\"/bin/true\",\"args\":[],\"status\":\"RUNNING\",\"version\":1}")),
  ]
}
