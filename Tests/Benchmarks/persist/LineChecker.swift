import BenchmarkKit
import JobletModel

#if canImport(Glibc)
  import Glibc
#endif

/// The fixed form of a stored line: `{"seq":N,"ts":"<30>","stream":"stdout","line":"…"}`.
enum JSONLine {
  private static let begin = Array("{\"seq\":".utf8)
  private static let middle = Array("\",\"stream\":\"stdout\",\"line\":\"".utf8)

  static func seq(_ line: UnsafeRawBufferPointer) -> UInt64? {
    guard line.count > begin.count, line.starts(with: begin) else { return nil }
    var value: UInt64 = 0
    for byte in line[begin.count...] {
      guard byte >= 0x30, byte <= 0x39 else { break }
      value = value &* 10 &+ UInt64(byte &- 0x30)
    }
    return value
  }

  /// The bytes between the quotes of `"line":"…"}` and the newline: what stands there is not unescaped. Nil for another form.
  static func text(_ line: UnsafeRawBufferPointer) -> UnsafeRawBufferPointer? {
    guard let comma = line.firstIndex(of: 0x2C) else { return nil }
    // ,"ts":" and the 30 characters of the time
    let end = comma + 7 + 30
    guard line.count >= end + middle.count + 3 else { return nil }
    let form = UnsafeRawBufferPointer(rebasing: line[end..<(end + middle.count)])
    guard form.elementsEqual(middle) else { return nil }
    return UnsafeRawBufferPointer(rebasing: line[(end + middle.count)..<(line.count - 3)])
  }
}

/// Reads a job's JSON lines and compares each with what was written, byte for byte.
struct LineChecker {
  let job: Int
  /// Lines that are there, doubles not counted.
  private(set) var lines: UInt64 = 0
  /// Numbers left out, and numbers that came again (or ran back).
  private(set) var lost: UInt64 = 0
  private(set) var doubled: UInt64 = 0
  private(set) var last: UInt64 = 0
  private var rest: [UInt8] = []
  private let expected: UnsafeMutableBufferPointer<UInt8>

  init(job: Int) {
    self.job = job
    expected = .allocate(capacity: Lines.length)
  }

  /// Gives its memory back; it is of no use afterwards.
  func free() { expected.deallocate() }

  /// Takes the next bytes; lines may be cut anywhere.
  mutating func take(_ bytes: UnsafeRawBufferPointer) throws {
    guard let base = bytes.baseAddress else { return }
    var from = 0
    while from < bytes.count, let found = memchr(base + from, 0x0A, bytes.count - from) {
      let end = UnsafeRawPointer(found) - base + 1
      let piece = UnsafeRawBufferPointer(rebasing: bytes[from..<end])
      if rest.isEmpty {
        try check(piece)
      } else {
        let whole = rest + piece
        rest.removeAll(keepingCapacity: true)
        try whole.withUnsafeBytes { try check($0) }
      }
      from = end
    }
    rest += bytes[from...]
  }

  private mutating func check(_ line: UnsafeRawBufferPointer) throws {
    guard let seq = JSONLine.seq(line), seq >= 1, let text = JSONLine.text(line), let out = expected.baseAddress else {
      throw BenchmarkError("job \(job) has what is no line: \(String(decoding: line.prefix(200), as: UTF8.self))")
    }
    Lines.write(job, seq, to: out)
    guard text.count == Lines.length - 1, let base = text.baseAddress, memcmp(base, out, text.count) == 0 else {
      throw BenchmarkError(
        "line \(seq) of job \(job) is not what was written: \(String(decoding: line.prefix(300), as: UTF8.self))")
    }
    if seq <= last {
      doubled += 1
      return
    }
    lost += seq - last - 1
    lines += 1
    last = seq
  }

  /// Lines up to `total` that never came count as lost.
  mutating func end(total: UInt64) throws {
    guard rest.isEmpty else { throw BenchmarkError("job \(job) ends in the middle of a line") }
    if last < total { lost += total - last }
    guard last <= total else { throw BenchmarkError("job \(job) has line \(last), but only \(total) were written") }
  }
}
