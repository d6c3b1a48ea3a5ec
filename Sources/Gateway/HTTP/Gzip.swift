import CZlib
import NIOCore

/// A body on its way through gzip (RFC 1952). A piece that is flushed can be read as soon as it arrives, so that a live
/// stream stays live.
///
/// 8 KiB of window rather than 32: a stream's state takes 70 KB that way and not 268, and there may be a thousand of them.
final class GzipEncoder {
  /// Shorter bodies are sent plain: what is saved is less than it costs.
  static let worthwhile = 1024
  /// Compressed at one go, so that whoever shares the event loop waits a millisecond and not ten.
  static let slice = 64 << 10

  private let stream: UnsafeMutablePointer<z_stream>
  private static let windowBits: Int32 = 13 + 16  // 16: with gzip's header and trailer (zlib.h, deflateInit2)
  private static let memoryLevel: Int32 = 6

  /// Nil if there is no memory for it: the body goes plain then.
  init?() {
    stream = .allocate(capacity: 1)
    stream.initialize(to: z_stream())
    let code = deflateInit2_(
      stream, Z_BEST_SPEED, Z_DEFLATED, GzipEncoder.windowBits, GzipEncoder.memoryLevel, Z_DEFAULT_STRATEGY,
      ZLIB_VERSION, Int32(MemoryLayout<z_stream>.size))
    guard code == Z_OK else {
      stream.deallocate()
      return nil
    }
  }

  deinit {
    deflateEnd(stream)
    stream.deallocate()
  }

  enum Mode {
    /// More follows, and may wait.
    case more
    /// All that was given so far can be read behind these bytes.
    case flush
    case end
  }

  /// Compresses `input` and adds it to `output`.
  func add(_ input: ByteBufferView, _ mode: Mode, to output: inout ByteBuffer) {
    let flush =
      switch mode {
      case .more: Z_NO_FLUSH
      case .flush: Z_SYNC_FLUSH
      case .end: Z_FINISH
      }
    input.withUnsafeBytes { bytes in
      // zlib only reads from there; its type says otherwise.
      stream.pointee.next_in = UnsafeMutablePointer(mutating: bytes.bindMemory(to: UInt8.self).baseAddress)
      stream.pointee.avail_in = UInt32(bytes.count)
      repeat {
        let room = max(1024, bytes.count / 4)
        output.writeWithUnsafeMutableBytes(minimumWritableBytes: room) { out in
          stream.pointee.next_out = out.bindMemory(to: UInt8.self).baseAddress
          stream.pointee.avail_out = UInt32(min(out.count, Int(UInt32.max)))
          let before = stream.pointee.avail_out
          // With room to write to and a stream that was set up right, there is nothing that can fail (zlib.h, deflate).
          _ = deflate(stream, flush)
          return Int(before - stream.pointee.avail_out)
        }
        // Room left over: it had nothing more to say.
      } while stream.pointee.avail_out == 0
      stream.pointee.next_in = nil
      stream.pointee.next_out = nil
    }
  }

  /// A whole body in one, with pauses for others. Nil if there is no memory for it.
  static func body(_ plain: ByteBuffer) async -> ByteBuffer? {
    guard let encoder = GzipEncoder() else { return nil }
    var packed = ByteBuffer()
    packed.reserveCapacity(plain.readableBytes / 4)
    var rest = plain.readableBytesView
    while rest.count > slice {
      encoder.add(rest.prefix(slice), .more, to: &packed)
      rest = rest.dropFirst(slice)
      await Task.yield()
    }
    encoder.add(rest, .end, to: &packed)
    return packed
  }
}
