/// A record's one JSON form, from exec's state directory to the API's replies: keys sorted, slashes as they are, what is not
/// known absent.
///
/// Not by way of `Codable`: a record is written about ten times in a job's life, and that was a tenth of all the CPU time that a
/// short job costs. Reading is: it happens less, and the checks are worth it.
extension JobRecord {
  /// The record as JSON, without a newline.
  public func json() -> [UInt8] {
    var object = JSONObjectWriter()
    object.member("args", args)
    object.member("command", command)
    object.member("created_at", createdAt)
    object.member("ended_at", endedAt)
    object.member("env", env)
    object.member("exit_code", exitCode)
    object.member("id", id.description)
    object.member("labels", labels)
    object.member("last_seq", lastSeq)
    object.member("limits") { $0.members(of: limits) }
    object.member("message", message)
    object.member("name", name)
    object.member("node_id", nodeID)
    object.member("owner", owner)
    object.member("reason", reason?.rawValue)
    object.member("scheduled_at", scheduledAt)
    object.member("seccomp", seccomp)
    object.member("secret_env", secretEnv)
    object.member("signal", signal)
    object.member("started_at", startedAt)
    object.member("status", status.rawValue)
    object.member("timeout", timeout)
    object.member("traceparent", traceparent)
    if let usage { object.member("usage") { $0.members(of: usage) } }
    object.member("version", version)
    return object.finish()
  }
}

/// Writes one JSON object into memory of its own. Its members come in the order in which they are given.
private struct JSONObjectWriter {
  private var bytes: [UInt8] = []
  private var isFirst = true

  init() {
    bytes.reserveCapacity(1024)
    bytes.append(UInt8(ascii: "{"))
  }

  consuming func finish() -> [UInt8] {
    bytes.append(UInt8(ascii: "}"))
    return bytes
  }

  private mutating func literal(_ text: StaticString) {
    bytes.append(contentsOf: UnsafeBufferPointer(start: text.utf8Start, count: text.utf8CodeUnitCount))
  }

  /// - Parameter key: letters that need no escape.
  private mutating func begin(_ key: StaticString) {
    separate()
    bytes.append(UInt8(ascii: "\""))
    literal(key)
    literal("\":")
  }

  private mutating func separate() {
    if !isFirst { bytes.append(UInt8(ascii: ",")) }
    isFirst = false
  }

  mutating func member(_ key: StaticString, _ value: String?) {
    guard let value else { return }
    begin(key)
    string(value)
  }

  mutating func member(_ key: StaticString, _ value: (some FixedWidthInteger)?) {
    guard let value else { return }
    begin(key)
    bytes.append(contentsOf: String(value).utf8)
  }

  mutating func member(_ key: StaticString, _ value: Timestamp?) { member(key, value?.description) }

  mutating func member(_ key: StaticString, _ values: [String]) {
    begin(key)
    bytes.append(UInt8(ascii: "["))
    for (index, value) in values.enumerated() {
      if index > 0 { bytes.append(UInt8(ascii: ",")) }
      string(value)
    }
    bytes.append(UInt8(ascii: "]"))
  }

  mutating func member(_ key: StaticString, _ values: [String: String]) {
    member(key) { object in
      for (name, value) in values.sorted(by: { $0.key < $1.key }) {
        object.separate()
        object.string(name)
        object.bytes.append(UInt8(ascii: ":"))
        object.string(value)
      }
    }
  }

  /// An object as a member; `body` writes its members.
  mutating func member(_ key: StaticString, _ body: (inout JSONObjectWriter) -> Void) {
    begin(key)
    bytes.append(UInt8(ascii: "{"))
    isFirst = true
    body(&self)
    isFirst = false
    bytes.append(UInt8(ascii: "}"))
  }

  mutating func members(of limits: Limits) {
    member("cpu_cores", limits.cpuCores)
    member("cpu_percent", limits.cpuPercent)
    member("cpu_weight", limits.cpuWeight)
    member("io_bps", limits.ioBps)
    member("memory_high_mb", limits.memoryHighMB)
    member("memory_mb", limits.memoryMB)
    member("pids", limits.pids)
  }

  mutating func members(of usage: JobUsage) {
    member("cpu_usec", usage.cpuUsec)
    member("io_read_bytes", usage.ioReadBytes)
    member("io_write_bytes", usage.ioWriteBytes)
    member("memory_peak_bytes", usage.memoryPeakBytes)
  }

  /// A string with its quotes and JSON's escapes (RFC 8259, section 7).
  private mutating func string(_ text: String) {
    bytes.append(UInt8(ascii: "\""))
    for byte in text.utf8 {
      switch byte {
      case UInt8(ascii: "\""): literal("\\\"")
      case UInt8(ascii: "\\"): literal("\\\\")
      case 0x0A: literal("\\n")
      case 0x0D: literal("\\r")
      case 0x09: literal("\\t")
      case 0x00..<0x20:
        literal("\\u00")
        bytes.append(Hex.digit(byte >> 4))
        bytes.append(Hex.digit(byte & 0xF))
      default: bytes.append(byte)
      }
    }
    bytes.append(UInt8(ascii: "\""))
  }
}
