import CZlib
import Glibc
import JobletModel
import LocalStore
import LogStore
import Testing

/// What quiet jobs cost on disk: members that were sealed by age are small, and must not be large for that.
@Suite struct TrickleTests {
  static let words = [
    "GET", "POST", "/v1/items", "user", "error", "info", "latency", "ms", "200", "404", "closed", "retry",
  ]

  static func line(_ random: inout SeededNumbers) -> String {
    var text = ""
    while text.utf8.count < 100 {
      text += (words.randomElement(using: &random) ?? "") + "=\(String(random.next() % 100_000, radix: 16)) "
    }
    return String(text.prefix(100))
  }

  /// The bytes `gzip` (level 6) makes of it.
  static func gzipped(_ bytes: [UInt8]) -> Int {
    var stream = z_stream()
    deflateInit2_(
      &stream, 6, Z_DEFLATED, MAX_WBITS + 16, 8, Z_DEFAULT_STRATEGY, ZLIB_VERSION, CInt(MemoryLayout<z_stream>.size))
    defer { deflateEnd(&stream) }
    var input = bytes
    var output = [UInt8](repeating: 0, count: bytes.count + 1000)
    return input.withUnsafeMutableBufferPointer { input in
      output.withUnsafeMutableBufferPointer { output in
        stream.next_in = input.baseAddress
        stream.avail_in = UInt32(input.count)
        stream.next_out = output.baseAddress
        stream.avail_out = UInt32(output.count)
        deflate(&stream, Z_FINISH)
        return Int(stream.total_out)
      }
    }
  }

  /// 100 jobs, one line of 100 bytes a second, ten minutes, a member every five.
  @Test func aTrickleComesCloseToGzip() throws {
    let bench = LocalBench()
    let store = try bench.open()
    var random = SeededNumbers(71)
    var stored = 0
    var gzipped = 0
    for job in 0..<100 as Range<UInt64> {
      var json: [UInt8] = []
      let id = JobID(high: 1, low: job)
      for half in 0..<2 {
        let chunks = (0..<300).map { second -> LogChunk in
          let text = Self.line(&random)
          let seq = UInt64(half * 300 + second + 1)
          return LocalBench.chunk(seq, count: 1, second: Int64(seq)) { _ in text }
        }
        try store.append(chunks, job: id, stream: .stdout)
      }
      let pages = try store.pages(id, .stdout, LogRange(), .ascending)
      while case .page = try pages.next() { json += Array(try #require(try pages.load())) }
      #expect(json.split(separator: 0x0A).count == 600)
      stored += bench.bytes("\(bench.path)/logs/\(id)/stdout.log.gz").count
      gzipped += Self.gzipped(json)
    }
    let ratio = Double(stored) / Double(gzipped)
    #expect(ratio <= 1.1, "\(ratio)")
  }
}
