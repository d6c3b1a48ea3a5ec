import JobletModel

/// What a frame is. One numbering for the three sockets; a socket refuses types that are not its own.
public enum FrameType: UInt8, Sendable, CaseIterable {
  // The write socket: exec → persist, and back.
  /// JSON ``Hello``, first on every connection, in both directions.
  case hello = 1
  /// A chunk of log lines: raw bytes, `seq` of the first, `count`, `stream`, flag `partial`.
  case log = 2
  /// Metrics samples: `count` whole JSON lines (``JobletModel/MetricSample/line``), `seq` of the first, `timestamp` of the
  /// last. Also answers ``queryMetrics`` and ``metricOutput``, with the flag ``FrameFlags/encoded``.
  case metric = 3
  /// JSON ``JobRecord``; `seq` is its version.
  case record = 4
  /// No more lines of the job will come; `seq` is the last one's number (0 if there were none).
  case end = 5
  /// persist → exec: lines up to `seq` are written. `stream` says which counter: see ``AckKind``.
  case ack = 6
  /// A job's data is to go.
  case delete = 7
  /// persist → exec, behind the hello and at every change: JSON ``StoreCondition``.
  case condition = 8

  // Requests; the payload is JSON of the type in brackets.
  case ping = 16
  /// [``JobletModel/LogQuery``] → `log` frames of JSON lines (flag ``FrameFlags/encoded``), then ``done``. One without a
  /// payload is a gap: the `count` lines from `seq` on are damaged in the store and can't be given.
  case queryLogs = 17
  /// [``JobletModel/RecordQuery``] → `record` frames, newest first, then ``done``.
  case listRecords = 18
  /// Job in the header → a `record` frame, or ``problem``.
  case getRecord = 19
  /// Job in the header → ``done``, when its data is gone and stays gone.
  case deleteJobData = 20
  /// [``JobletModel/MetricQuery``] → `metric` frames of JSON lines (flag ``FrameFlags/encoded``), then ``done``.
  case queryMetrics = 21
  /// → ``done`` with the service's own metrics as Prometheus text (the text exposition format 0.0.4). On exec.sock too.
  case statistics = 22
  /// [``SweepRequest``] → `sweep` frames, each a JSON list of ``SweptJob``, as they go; then ``done`` with ``SweepTotals``.
  case sweep = 23

  // exec.sock.
  /// [``RunRequest``] → `record`, with the flag ``FrameFlags/replayed`` if an earlier request with the same key started the job;
  /// its payload is empty then if exec has let go of the job.
  case run = 32
  /// Job in the header → `record`.
  case status = 33
  /// → `record` for every job exec knows, then ``done`` with ``SnapshotEnd``, then `record` for every change, for ever.
  case events = 34
  /// [``StopRequest``] → `record`.
  case stop = 35
  /// Job in the header, [``JobletModel/Caller``] → ``done``.
  case deleteJob = 36
  /// [``OutputRequest``] → `log` frames (raw chunks), then one [``OutputState``].
  case output = 37
  /// Answers ``output``: [``OutputState``].
  case outputState = 38
  /// [``OutputRequest``] → `metric` frames (flag ``FrameFlags/encoded``), then one [``OutputState``]: the pull of one
  /// follower of a job's samples. `after` and the state's numbers count samples.
  case metricOutput = 39

  /// Job in the header, [``JobletModel/Caller``] → `record`: the job's processes are frozen.
  case pause = 40
  /// Job in the header, [``JobletModel/Caller``] → `record`: they go on.
  case resume = 41

  /// → ``done`` with JSON ``JobletModel/NodeStatus``: the host and the jobs as exec sees them.
  case nodeStatus = 48

  // Replies.
  /// The request is answered in full; the payload is JSON of what the request's type says, or empty.
  case done = 64
  /// JSON ``JobletModel/Problem``: the request is refused.
  case problem = 65
}

/// Which counter an ``FrameType/ack`` speaks of.
public enum AckKind: UInt8, Sendable {
  case log = 0
  case metric = 1
  case record = 2
  case end = 3
  case delete = 4
}

public struct FrameFlags: OptionSet, Sendable, Hashable {
  public let rawValue: UInt8
  public init(rawValue: UInt8) { self.rawValue = rawValue }
  /// The chunk is one record without a newline.
  public static let partial = FrameFlags(rawValue: 1)
  /// A log frame's payload is JSON lines rather than raw lines.
  public static let encoded = FrameFlags(rawValue: 2)
  /// The record is of a job that an earlier request with the same key started.
  public static let replayed = FrameFlags(rawValue: 4)
}

/// The header every frame starts with: 48 bytes, little-endian.
///
/// | offset | size | field |
/// | --- | --- | --- |
/// | 0 | 4 | magic, the bytes `JBLT` |
/// | 4 | 1 | protocol version, 1 |
/// | 5 | 1 | ``FrameType`` |
/// | 6 | 1 | ``FrameFlags`` |
/// | 7 | 1 | stream (``JobletModel/LogStream``), ``AckKind`` in acknowledgements, else 0 |
/// | 8 | 16 | job UUID in network order, zero where there is none |
/// | 24 | 8 | seq |
/// | 32 | 8 | timestamp, Unix nanoseconds |
/// | 40 | 4 | count of records in the payload |
/// | 44 | 4 | payload length |
public struct FrameHeader: Sendable, Hashable {
  public var type: FrameType
  public var flags: FrameFlags
  public var stream: UInt8
  public var job: JobID
  public var seq: UInt64
  public var timestamp: Timestamp
  public var count: UInt32
  public var length: UInt32

  public static let byteCount = 48
  public static let version: UInt8 = 1
  static let magic: UInt32 = 0x544C_424A  // "JBLT", little-endian

  public init(
    _ type: FrameType, flags: FrameFlags = [], stream: UInt8 = 0, job: JobID = .none, seq: UInt64 = 0,
    timestamp: Timestamp = Timestamp(nanoseconds: 0), count: UInt32 = 0, length: UInt32 = 0
  ) {
    self.type = type
    self.flags = flags
    self.stream = stream
    self.job = job
    self.seq = seq
    self.timestamp = timestamp
    self.count = count
    self.length = length
  }

  /// The header of a log frame that carries `chunk`.
  public init(job: JobID, chunk: LogChunkInfo, length: UInt32) {
    self.init(
      .log, flags: chunk.isPartial ? .partial : [], stream: chunk.stream.rawValue, job: job, seq: chunk.firstSeq,
      timestamp: chunk.timestamp, count: chunk.count, length: length)
  }

  /// What a log frame says of its payload. Nil if the stream or the count is impossible.
  public var chunk: LogChunkInfo? {
    guard let stream = LogStream(rawValue: stream), count >= 1, seq >= 1, seq <= UInt64.max - UInt64(count) else {
      return nil
    }
    return LogChunkInfo(
      stream: stream, firstSeq: seq, count: count, timestamp: timestamp, isPartial: flags.contains(.partial))
  }
}

extension JobID {
  /// The header's value where a frame speaks of no job.
  public static let none = JobID(high: 0, low: 0)
}

/// Why bytes are not a frame. The connection they came on is closed with this reason.
public enum FrameError: Error, Hashable, Sendable, CustomStringConvertible {
  case badMagic(UInt32)
  case unknownVersion(UInt8)
  case unknownType(UInt8)
  case tooLong(length: UInt32, allowed: Int)
  case truncated
  case unexpected(FrameType)
  case badPayload(FrameType, String)

  public var description: String {
    switch self {
    case .badMagic(let value): "not a frame: it starts with 0x\(String(value, radix: 16)), not 'JBLT'"
    case .unknownVersion(let version):
      "frame version \(version) is not known here; this side speaks \(FrameHeader.version)"
    case .unknownType(let type): "frame type \(type) is not known"
    case .tooLong(let length, let allowed): "a frame of \(length) bytes is over the limit of \(allowed)"
    case .truncated: "the connection ended in the middle of a frame"
    case .unexpected(let type): "a frame of type '\(type)' has no place here"
    case .badPayload(let type, let why): "the payload of a frame of type '\(type)' can't be read: \(why)"
    }
  }
}

extension FrameHeader {
  /// Reads a header: a pure function over bytes.
  /// - Parameters:
  ///   - bytes: at least ``byteCount`` bytes are needed; fewer give nil (read more).
  ///   - maxPayload: the longest payload allowed, `persist.ipc.max_message_size`.
  public static func decode(_ bytes: UnsafeRawBufferPointer, maxPayload: Int) throws(FrameError) -> FrameHeader? {
    guard bytes.count >= byteCount else { return nil }
    func load<T: FixedWidthInteger>(_ offset: Int, as: T.Type) -> T {
      T(littleEndian: bytes.loadUnaligned(fromByteOffset: offset, as: T.self))
    }
    let magic = load(0, as: UInt32.self)
    guard magic == FrameHeader.magic else { throw .badMagic(magic) }
    guard bytes[4] == version else { throw .unknownVersion(bytes[4]) }
    guard let type = FrameType(rawValue: bytes[5]) else { throw .unknownType(bytes[5]) }
    let length = load(44, as: UInt32.self)
    guard length <= maxPayload else { throw .tooLong(length: length, allowed: maxPayload) }
    return FrameHeader(
      type, flags: FrameFlags(rawValue: bytes[6]), stream: bytes[7],
      job: JobID(high: load(8, as: UInt64.self).byteSwapped, low: load(16, as: UInt64.self).byteSwapped),
      seq: load(24, as: UInt64.self), timestamp: Timestamp(nanoseconds: load(32, as: Int64.self)),
      count: load(40, as: UInt32.self), length: length)
  }

  /// Writes the header's 48 bytes.
  public func encode(into out: UnsafeMutableRawBufferPointer) {
    precondition(out.count >= FrameHeader.byteCount)
    func store<T: FixedWidthInteger>(_ value: T, _ offset: Int) {
      out.storeBytes(of: value, toByteOffset: offset, as: T.self)
    }
    store(FrameHeader.magic.littleEndian, 0)
    store(FrameHeader.version, 4)
    store(type.rawValue, 5)
    store(flags.rawValue, 6)
    store(stream, 7)
    store(job.high.bigEndian, 8)
    store(job.low.bigEndian, 16)
    store(seq.littleEndian, 24)
    store(timestamp.nanoseconds.littleEndian, 32)
    store(count.littleEndian, 40)
    store(length.littleEndian, 44)
  }
}
