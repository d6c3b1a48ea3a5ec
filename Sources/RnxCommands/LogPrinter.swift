import FoundationEssentials
import Glibc
import JobletClient
import JobletModel

/// Prints a job's output: stdout's lines to stdout and stderr's to stderr, the job's own bytes, or JSON lines.
struct LogPrinter {
  var terminal: Terminal
  var json = false
  /// Ends the JSON lines with how the job ended, as the API's do that were followed.
  var isFollowed = true
  /// Puts each line's time before it.
  var timestamps = false

  /// Prints all there is.
  /// - Returns: how the job ended, nil if the stream did not say.
  func print(_ logs: LogBatches) async throws -> JobEnd? {
    var end: JobEnd?
    var batch = PrintBatch(timestamps: timestamps, json: json)
    for try await events in logs {
      for event in events {
        switch event {
        case .record(let line): batch.append(line)
        case .gap(let from, let to):
          try await flush(&batch)
          try await gap(from, to)
        case .end(let last): end = last
        case .reconnecting(let why):
          try await flush(&batch)
          try await terminal.note("the connection was lost (\(why)); going on where it broke")
        }
      }
      try await flush(&batch)
    }
    if json, isFollowed, let end { try await terminal.print(JSONOutput.text(["end": end])) }
    return end
  }

  private func gap(_ from: UInt64, _ to: UInt64) async throws {
    if json {
      try await terminal.print(JSONOutput.text(["gap": ["from": from, "to": to]]))
    } else {
      try await terminal.warn("lines \(from) to \(to) are lost")
    }
  }

  private func flush(_ batch: inout PrintBatch) async throws {
    for run in batch.take() {
      try await terminal.write(run.bytes, to: run.stream == .stdout ? STDOUT_FILENO : STDERR_FILENO)
    }
  }
}

/// Gathers lines into as few writes as keep the order between the two streams.
package struct PrintBatch {
  package struct Run: Hashable {
    package var stream: LogStream
    package var bytes: [UInt8]
  }

  let timestamps: Bool
  let json: Bool
  private var runs: [Run] = []
  /// Streams whose last record had no newline: what follows goes on in the same line, without a time before it.
  private var isOpenLine: [LogStream: Bool] = [:]
  private let encoder = JSONLines()

  package init(timestamps: Bool = false, json: Bool = false) {
    self.timestamps = timestamps
    self.json = json
  }

  package mutating func append(_ line: LogLine) {
    let stream: LogStream = json ? .stdout : line.stream
    if runs.last?.stream != stream { runs.append(Run(stream: stream, bytes: [])) }
    let last = runs.count - 1
    if json {
      encoder.append(line, to: &runs[last].bytes)
      return
    }
    if timestamps, isOpenLine[line.stream] != true {
      runs[last].bytes += line.timestamp.utf8
      runs[last].bytes.append(UInt8(ascii: " "))
    }
    line.appendText(to: &runs[last].bytes)
    isOpenLine[line.stream] = line.isPartial
  }

  package mutating func take() -> [Run] {
    defer { runs = [] }
    return runs
  }
}

/// Writes a line's JSON anew, in the form it has everywhere.
struct JSONLines {
  func append(_ line: LogLine, to out: inout [UInt8]) {
    var encoder = LogLineEncoder(capacity: 256)
    let timestamp = Timestamp(rfc3339: line.timestamp) ?? Timestamp(nanoseconds: 0)
    line.bytes.withUnsafeBytes {
      encoder.appendLine(
        seq: line.seq, timestamp: timestamp, stream: line.stream, isPartial: line.isPartial, line: $0)
    }
    out.append(contentsOf: encoder.bytes)
  }
}
