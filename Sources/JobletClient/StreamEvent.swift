import FoundationEssentials
import JobletModel

/// A kind of a job's records that a node streams.
public protocol StreamedRecord: Sendable, Hashable {
  /// The name of its events.
  static var eventName: String { get }
  /// Its number; nil for what the node has computed.
  var number: UInt64? { get }
  /// Reads an event's data; nil if it can't be one.
  init?(event data: [UInt8])
}

/// What a stream of a job's records says.
public enum StreamEvent<Record: StreamedRecord>: Sendable, Hashable {
  case record(Record)
  /// Records that are lost, first and last `seq`.
  case gap(from: UInt64, to: UInt64)
  /// The job has ended; nothing follows.
  case end(JobEnd)
  /// The connection was lost and is being made anew; no record is lost or doubled by that.
  case reconnecting(why: String)
}

extension LogLine: StreamedRecord {
  public static var eventName: String { "log" }
  public var number: UInt64? { seq }
  public init?(event data: [UInt8]) { self.init(json: data) }
}

/// A sample, or an aggregate of samples.
public struct MetricLine: StreamedRecord {
  /// The JSON as the node sent it, without a newline.
  public let json: [UInt8]
  public let point: MetricPoint

  public static var eventName: String { "metrics" }
  public var number: UInt64? { point.seq }

  public init?(event data: [UInt8]) {
    do {
      point = try JSONDecoder().decode(MetricPoint.self, from: Data(data))
    } catch {
      return nil
    }
    json = data
  }
}
