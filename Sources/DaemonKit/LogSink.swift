import CSystemd
import Glibc
import JobletConfig
import JobletModel
import Logging

/// Where a log line ends.
enum LogSink: Sendable {
  case journal(identifier: String)
  case stream(LogFile, Configuration.Logging.Format)

  func write(_ event: LogEvent, metadata: Logger.Metadata, label: String) {
    switch self {
    case .journal(let identifier):
      Journal.send(fields: LogText.journalFields(event, metadata: metadata, label: label, identifier: identifier))
    case .stream(let file, .text): file.write(LogText.text(event, metadata: metadata, label: label, at: .now()))
    case .stream(let file, .json): file.write(LogText.json(event, metadata: metadata, label: label, at: .now()))
    }
  }
}

/// swift-log's handler: the level is the daemon's, so that a reload changes every logger at once.
struct DaemonLogHandler: LogHandler {
  let label: String
  let control: LogControl
  let sink: LogSink
  var metadata: Logger.Metadata = [:]
  var metadataProvider: Logger.MetadataProvider?
  private var own: Logger.Level?

  init(label: String, control: LogControl, sink: LogSink) {
    self.label = label
    self.control = control
    self.sink = sink
  }

  var logLevel: Logger.Level {
    get { own ?? control.current }
    set { own = newValue }
  }

  subscript(metadataKey key: String) -> Logger.Metadata.Value? {
    get { metadata[key] }
    set { metadata[key] = newValue }
  }

  func log(event: LogEvent) {
    var all = metadata
    if let provided = metadataProvider?.get() { all.merge(provided) { $1 } }
    if let given = event.metadata { all.merge(given) { $1 } }
    if let error = event.error { all["error"] = "\(error)" }
    sink.write(event, metadata: all, label: label)
  }
}

/// A log line's forms. Pure.
package enum LogText {
  /// `2026-11-21T20:15:55.123456789Z INFO joblet-exec: message key=value`
  package static func text(_ event: LogEvent, metadata: Logger.Metadata, label: String, at time: Timestamp) -> String {
    "\(time) \(event.level.name) \(label): \(readable(event, metadata))\n"
  }

  /// One JSON object a line; metadata keys stand beside `ts`, `level`, `logger` and `message` and never replace them.
  package static func json(_ event: LogEvent, metadata: Logger.Metadata, label: String, at time: Timestamp) -> String {
    var line = "{\"ts\":\"\(time)\",\"level\":\"\(event.level.name)\",\"logger\":"
    quote(label, into: &line)
    line += ",\"message\":"
    quote(event.message.description, into: &line)
    for (key, value) in metadata.sorted(by: { $0.key < $1.key }) {
      line += ","
      quote(["ts", "level", "logger", "message"].contains(key) ? "_\(key)" : key, into: &line)
      line += ":"
      quote("\(value)", into: &line)
    }
    return line + "}\n"
  }

  /// `NAME=value` fields of the journal's native protocol (systemd.journal-fields(7)): the message, its priority, and every metadata
  /// key as `JOBLET_KEY`, so that `journalctl JOBLET_JOB=…` finds a job's lines.
  package static func journalFields(
    _ event: LogEvent, metadata: Logger.Metadata, label: String, identifier: String
  ) -> [String] {
    var fields = [
      "MESSAGE=\(readable(event, metadata))", "PRIORITY=\(event.level.priority)", "SYSLOG_IDENTIFIER=\(identifier)",
      "JOBLET_LOGGER=\(label)", "CODE_FILE=\(event.file)", "CODE_LINE=\(event.line)", "CODE_FUNC=\(event.function)",
    ]
    for (key, value) in metadata.sorted(by: { $0.key < $1.key }) { fields.append("JOBLET_\(fieldName(key))=\(value)") }
    return fields
  }

  /// A field's name takes A-Z, 0-9 and underscores; the journal drops what has others.
  static func fieldName(_ key: String) -> String {
    String(
      String.UnicodeScalarView(
        key.unicodeScalars.map { scalar in
          switch scalar {
          case "a"..."z": Unicode.Scalar(UInt8(scalar.value) - 32)
          case "A"..."Z", "0"..."9": scalar
          default: "_"
          }
        }))
  }

  private static func readable(_ event: LogEvent, _ metadata: Logger.Metadata) -> String {
    var line = oneLine(event.message.description)
    for (key, value) in metadata.sorted(by: { $0.key < $1.key }) {
      let text = oneLine("\(value)")
      line += text.contains(" ") || text.isEmpty ? " \(key)=\"\(text)\"" : " \(key)=\(text)"
    }
    return line
  }

  /// A message may hold what a client sent: control characters must not make a second line or drive a terminal.
  private static func oneLine(_ text: String) -> String {
    guard text.unicodeScalars.contains(where: { $0.value < 32 || $0.value == 127 }) else { return text }
    var out = ""
    for scalar in text.unicodeScalars {
      switch scalar {
      case "\n": out += "\\n"
      case "\t": out += "\\t"
      case _ where scalar.value < 32 || scalar.value == 127: out += "\\x" + hex(scalar.value, 2)
      default: out.unicodeScalars.append(scalar)
      }
    }
    return out
  }

  private static func quote(_ text: String, into line: inout String) {
    line += "\""
    for scalar in text.unicodeScalars {
      switch scalar {
      case "\"": line += "\\\""
      case "\\": line += "\\\\"
      case "\n": line += "\\n"
      case _ where scalar.value < 32: line += "\\u" + hex(scalar.value, 4)
      default: line.unicodeScalars.append(scalar)
      }
    }
    line += "\""
  }

  private static func hex(_ value: UInt32, _ width: Int) -> String {
    let digits = String(value, radix: 16)
    return String(repeating: "0", count: max(0, width - digits.utf8.count)) + digits
  }
}

/// The journal's native socket, through libsystemd.
enum Journal {
  /// Sends one entry (sd_journal_sendv(3)). A journal that is away loses the line: there is nowhere to say so.
  static func send(fields: [String]) {
    var bytes: [UInt8] = []
    var lengths: [Int] = []
    for field in fields {
      bytes.append(contentsOf: field.utf8)
      lengths.append(field.utf8.count)
    }
    bytes.withUnsafeMutableBytes { buffer in
      guard let base = buffer.baseAddress else { return }
      var offset = 0
      let vectors = lengths.map { length -> iovec in
        defer { offset += length }
        return iovec(iov_base: base + offset, iov_len: length)
      }
      _ = sd_journal_sendv(vectors, CInt(vectors.count))
    }
  }
}

/// A descriptor that log lines are written to, each with one write(2).
final class LogFile: Sendable {
  private let descriptor: CInt
  private let path: String?

  init(descriptor: CInt, path: String?) {
    self.descriptor = descriptor
    self.path = path
  }

  /// Opens a file for appending, readable by its owner and group.
  convenience init(path: String) throws {
    self.init(descriptor: try LogFile.open(path), path: path)
  }

  func write(_ line: String) {
    var line = line
    line.withUTF8 { bytes in
      var rest = UnsafeRawBufferPointer(bytes)
      while !rest.isEmpty {
        let count = Glibc.write(descriptor, rest.baseAddress, rest.count)
        if count > 0 {
          rest = UnsafeRawBufferPointer(rebasing: rest[count...])
        } else if errno != EINTR {
          return  // a full disk or a closed terminal must not stop the daemon
        }
      }
    }
  }

  /// Puts a newly opened file under the same descriptor: lines in flight go to the old file or the new one, none to neither.
  func reopen() throws {
    guard let path else { return }
    let fresh = try LogFile.open(path)
    defer { close(fresh) }
    // Between the two calls a program started just now inherits the log; joblet-init closes every descriptor it does not know.
    guard dup2(fresh, descriptor) >= 0, fcntl(descriptor, F_SETFD, FD_CLOEXEC) == 0 else {
      throw DaemonError.system("reopening the log file '\(path)'")
    }
  }

  private static func open(_ path: String) throws -> CInt {
    let descriptor = Glibc.open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o640)
    guard descriptor >= 0 else { throw DaemonError.system("opening the log file '\(path)' (logging.output)") }
    return descriptor
  }
}
