import JobletModel

/// The measured fields of a metrics line, and how they are read from one.
enum MetricFields {
  /// In the order in which ``JobletModel/MetricSample/line`` writes them; whether a field counts whole things.
  static let all: [(name: String, isWhole: Bool)] = [
    ("cpu_percent", false), ("cpu_usec", true), ("memory_bytes", true), ("memory_peak_bytes", true),
    ("io_read_bytes", true), ("io_write_bytes", true), ("io_read_ops", true), ("io_write_ops", true),
    ("net_rx_bytes", true), ("net_tx_bytes", true), ("pids", true), ("psi_cpu", false), ("psi_memory", false),
    ("psi_io", false), ("gpu_percent", false), ("gpu_memory_bytes", true),
  ]
  private static let keys = all.map { Array($0.name.utf8) }

  /// Reads `,"key":number` after `,"key":number` up to the closing brace: what stands behind a line's time. Keys that are
  /// not known and numbers that are none are passed over; anything else ends the line.
  static func read(_ fields: UnsafeRawBufferPointer, _ body: (_ field: Int, _ value: Double) -> Void) {
    walk(fields) { key, value, expected in
      guard let field = field(key, expected) else { return expected }
      if let value = number(value) { body(field, value) }
      return field + 1
    }
  }

  /// True if nothing but such fields stands behind a line's time, each with a number, and then `}` and a newline.
  static func isSound(_ fields: UnsafeRawBufferPointer) -> Bool {
    var isSound = true
    let end = walk(fields) { _, value, expected in
      if number(value) == nil { isSound = false }
      return expected
    }
    return isSound && fields[end...].elementsEqual([UInt8(ascii: "}"), 0x0A])
  }

  /// Calls `body` for each field with the number of the key that mostly comes next; answers where the fields end.
  @discardableResult
  private static func walk(
    _ fields: UnsafeRawBufferPointer,
    _ body: (_ key: Slice<UnsafeRawBufferPointer>, _ value: Slice<UnsafeRawBufferPointer>, _ expected: Int) -> Int
  ) -> Int {
    var index = 0
    // Lines have their fields in order, so the next key is mostly the next of the table.
    var expected = 0
    while index + 1 < fields.count, fields[index] == UInt8(ascii: ","), fields[index + 1] == UInt8(ascii: "\"") {
      let keyStart = index + 2
      var keyEnd = keyStart
      while keyEnd < fields.count, fields[keyEnd] != UInt8(ascii: "\"") { keyEnd += 1 }
      guard keyEnd + 1 < fields.count, fields[keyEnd + 1] == UInt8(ascii: ":") else { return index }
      let valueStart = keyEnd + 2
      var valueEnd = valueStart
      while valueEnd < fields.count, isNumeric(fields[valueEnd]) { valueEnd += 1 }
      expected = body(fields[keyStart..<keyEnd], fields[valueStart..<valueEnd], expected)
      index = valueEnd
    }
    return index
  }

  private static func field(_ key: Slice<UnsafeRawBufferPointer>, _ expected: Int) -> Int? {
    for step in keys.indices {
      let index = (expected + step) % keys.count
      if keys[index].count == key.count, keys[index].elementsEqual(key) { return index }
    }
    return nil
  }

  private static func isNumeric(_ byte: UInt8) -> Bool {
    switch byte {
    case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "+"), UInt8(ascii: "."),
      UInt8(ascii: "e"), UInt8(ascii: "E"):
      true
    default: false
    }
  }

  /// A JSON number that is finite. Whole numbers are exact up to 2^53.
  static func number(_ text: Slice<UnsafeRawBufferPointer>) -> Double? {
    guard !text.isEmpty, text.count <= 40 else { return nil }
    if text.count <= 15 {
      var value: Int64 = 0
      for byte in text {
        guard byte >= 0x30, byte <= 0x39 else { return slowNumber(text) }
        value = value * 10 + Int64(byte - 0x30)
      }
      return Double(value)
    }
    return slowNumber(text)
  }

  private static func slowNumber(_ text: Slice<UnsafeRawBufferPointer>) -> Double? {
    guard let value = Double(String(decoding: text, as: UTF8.self)), value.isFinite else { return nil }
    return value
  }
}
