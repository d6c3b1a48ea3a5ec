/// Readers of the kernel's figure files: pure functions over a file's bytes. What is not there, or not in the form the
/// kernel writes, is nil and never 0.
public enum FigureText {
  /// A file that is one number, as `memory.current`. `max` is no number.
  public static func number(_ bytes: UnsafeRawBufferPointer) -> Int64? {
    var scanner = Scanner(bytes)
    guard let value = scanner.number() else { return nil }
    scanner.skip(UInt8(ascii: "\n"))
    return scanner.isAtEnd ? value : nil
  }

  /// The number behind `key` in a file of `key number` lines, as `cpu.stat` and `memory.events`.
  public static func value(of key: StaticString, in bytes: UnsafeRawBufferPointer) -> Int64? {
    var scanner = Scanner(bytes)
    while !scanner.isAtEnd {
      if scanner.skip(key), scanner.skip(UInt8(ascii: " ")) {
        let value = scanner.number()
        return scanner.isAtLineEnd ? value : nil
      }
      scanner.nextLine()
    }
    return nil
  }

  /// `some avg10` of a pressure file: percent of the last ten seconds in which some task waited.
  public static func pressure(_ bytes: UnsafeRawBufferPointer) -> Double? {
    var scanner = Scanner(bytes)
    while !scanner.isAtEnd {
      if scanner.skip("some avg10=") { return scanner.decimal() }
      scanner.nextLine()
    }
    return nil
  }

  /// `io.stat`: lines of `8:0 rbytes=1 wbytes=2 rios=3 wios=4 …`, summed over the devices.
  public static func io(_ bytes: UnsafeRawBufferPointer) -> IOFigures {
    var sum = IOFigures(readBytes: 0, writtenBytes: 0, reads: 0, writes: 0)
    var scanner = Scanner(bytes)
    while !scanner.isAtEnd {
      scanner.add("rbytes=", to: &sum.readBytes)
      scanner.add("wbytes=", to: &sum.writtenBytes)
      scanner.add("rios=", to: &sum.reads)
      scanner.add("wios=", to: &sum.writes)
      scanner.nextWord()
    }
    return sum
  }
}

/// What a cgroup read and wrote on block devices, all of them together.
public struct IOFigures: Hashable, Sendable {
  /// Nil where a sum is beyond what a figure can hold.
  public var readBytes: Int64?
  public var writtenBytes: Int64?
  public var reads: Int64?
  public var writes: Int64?

  public init(readBytes: Int64?, writtenBytes: Int64?, reads: Int64?, writes: Int64?) {
    self.readBytes = readBytes
    self.writtenBytes = writtenBytes
    self.reads = reads
    self.writes = writes
  }
}

/// A place in a file's bytes.
private struct Scanner {
  private let bytes: UnsafeRawBufferPointer
  private var place = 0

  init(_ bytes: UnsafeRawBufferPointer) { self.bytes = bytes }

  var isAtEnd: Bool { place >= bytes.count }
  var isAtLineEnd: Bool { isAtEnd || bytes[place] == UInt8(ascii: "\n") }

  @discardableResult mutating func skip(_ byte: UInt8) -> Bool {
    guard !isAtEnd, bytes[place] == byte else { return false }
    place += 1
    return true
  }

  mutating func skip(_ text: StaticString) -> Bool {
    guard bytes.count - place >= text.utf8CodeUnitCount else { return false }
    for index in 0..<text.utf8CodeUnitCount where bytes[place + index] != text.utf8Start[index] { return false }
    place += text.utf8CodeUnitCount
    return true
  }

  mutating func nextLine() {
    while !isAtLineEnd { place += 1 }
    place += 1
  }

  /// To the start of the next word, on this line or another.
  mutating func nextWord() {
    while !isAtEnd, bytes[place] != UInt8(ascii: " "), bytes[place] != UInt8(ascii: "\n") { place += 1 }
    place += 1
  }

  /// Decimal digits, at least one. Nil if there is none, or the number is beyond an Int64.
  mutating func number() -> Int64? {
    let start = place
    var value: Int64? = 0
    while !isAtEnd, let digit = Int64(exactly: Int(bytes[place]) - 48), (0...9).contains(digit) {
      let (product, over) = (value ?? 0).multipliedReportingOverflow(by: 10)
      let (sum, overAgain) = product.addingReportingOverflow(digit)
      value = over || overAgain || value == nil ? nil : sum
      place += 1
    }
    return place > start ? value : nil
  }

  /// `12.34`.
  mutating func decimal() -> Double? {
    guard let whole = number() else { return nil }
    guard skip(UInt8(ascii: ".")) else { return Double(whole) }
    let start = place
    guard let fraction = number() else { return nil }
    var scale = 1.0
    for _ in start..<place { scale *= 10 }
    return (Double(whole) * scale + Double(fraction)) / scale
  }

  /// If the next word begins with `key`, adds its number.
  mutating func add(_ key: StaticString, to sum: inout Int64?) {
    guard skip(key), let value = number(), let old = sum else { return }
    let (new, over) = old.addingReportingOverflow(value)
    sum = over ? nil : new
  }
}
