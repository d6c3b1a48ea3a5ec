import JobletModel
import LogStore

/// What verifying one stream's file found.
public struct StreamReport: Hashable, Sendable {
  public var stream: StoredStream
  public var path: String
  public var fileBytes: UInt64 = 0
  /// Whole members, their lines and the JSON in them.
  public var members: UInt64 = 0
  public var lines: UInt64 = 0
  public var jsonBytes: UInt64 = 0
  /// The first and last number and the earliest and latest time; nil if there is no member.
  public var seqs: ClosedRange<UInt64>?
  public var times: ClosedRange<Timestamp>?
  /// Bytes behind the last whole member: of one that is being written now, or that a crash tore. The write-ahead log still
  /// has what is in it; the next start cuts it off.
  public var tornBytes: UInt64 = 0
  /// What is wrong, the first ``maxFaults`` of it.
  public var faults: [StreamFault] = []
  public var faultCount = 0

  public static let maxFaults = 100

  public var isSound: Bool { faultCount == 0 }

  init(_ stream: StoredStream, path: String) {
    self.stream = stream
    self.path = path
  }

  mutating func add(_ kind: StreamFault.Kind, at offset: UInt64, _ detail: String) {
    faultCount += 1
    if faults.count < StreamReport.maxFaults {
      faults.append(StreamFault(kind: kind, offset: offset, detail: detail))
    }
  }
}

/// One thing that is wrong with a stream's file.
public struct StreamFault: Hashable, Sendable, CustomStringConvertible {
  public enum Kind: String, Sendable, CaseIterable {
    /// Something else stands where the file should be, or it can't be read.
    case unreadable
    /// Bytes that are no member between members.
    case damage
    /// A member's data does not inflate to what its header and trailer say.
    case checksum
    /// A header says something wrong of its neighbours, or of its own lines.
    case header
    /// Numbers that run back.
    case order
    /// A line that is no line of the stream.
    case line
  }
  public var kind: Kind
  /// Where the member, or the damage, begins in the file.
  public var offset: UInt64
  public var detail: String

  public var description: String { "at \(offset): \(kind.rawValue): \(detail)" }
}

/// What verifying a job's data found.
public struct JobReport: Hashable, Sendable {
  public var job: JobID
  public var streams: [StreamReport]
  /// Numbers that no log line has, the first ``maxMissing`` runs of them, and the same of metrics. What persist reported as
  /// lost is among them, and lines that wait in its write-ahead log may be.
  public var missingLines: [ClosedRange<UInt64>] = []
  public var missingSamples: [ClosedRange<UInt64>] = []
  public var missingRuns = 0

  public static let maxMissing = 100

  public var isSound: Bool { missingRuns == 0 && streams.allSatisfy(\.isSound) }

  /// Looks for missing numbers in what `open` gives of these streams, in place of what was found before.
  package mutating func findMissing(_ streams: [StoredStream], open: OpenPages) throws {
    let lines = try ContinuityCheck(streams.filter { $0 != .metrics }, open: open).runs(atMost: JobReport.maxMissing)
    let samples = try ContinuityCheck(streams.filter { $0 == .metrics }, open: open).runs(atMost: JobReport.maxMissing)
    (missingLines, missingSamples) = (lines.found, samples.found)
    missingRuns = lines.count + samples.count
  }
}
