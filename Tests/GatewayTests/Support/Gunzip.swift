import CZlib
import JobletModel

/// Inflates a gzip body with zlib itself.
/// - Parameter isWhole: false for the beginning of one: what can be read of it so far.
func gunzip(_ bytes: [UInt8], isWhole: Bool = true) throws -> [UInt8] {
  var input = bytes
  var stream = z_stream()
  guard inflateInit2_(&stream, 15 + 16, ZLIB_VERSION, Int32(MemoryLayout<z_stream>.size)) == Z_OK else {
    throw Problem(.internalError, "inflateInit2")
  }
  defer { inflateEnd(&stream) }
  var output: [UInt8] = []
  var room = [UInt8](repeating: 0, count: 64 << 10)
  return try input.withUnsafeMutableBufferPointer { source in
    stream.next_in = source.baseAddress
    stream.avail_in = UInt32(source.count)
    while true {
      let (code, count) = room.withUnsafeMutableBufferPointer { out in
        stream.next_out = out.baseAddress
        stream.avail_out = UInt32(out.count)
        let code = inflate(&stream, Z_SYNC_FLUSH)
        return (code, out.count - Int(stream.avail_out))
      }
      output += room[..<count]
      if code == Z_STREAM_END { return output }
      if code == Z_BUF_ERROR || code == Z_OK && stream.avail_in == 0 && count < room.count {
        guard isWhole else { return output }
        throw Problem(.badRequest, "the body is cut off")
      }
      guard code == Z_OK else { throw Problem(.badRequest, "no gzip: \(code)") }
    }
  }
}
