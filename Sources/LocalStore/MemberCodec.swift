import CIsal
import CZlib
import JobletModel
import LogStore

/// Makes whole members: JSON lines in, gzip bytes out. Its buffers are used again and again.
final class MemberWriter {
  private var out: UnsafeMutableRawBufferPointer
  /// The lines of the next member.
  var lines = LogLineEncoder(capacity: 512 << 10)
  private let fast = FastDeflate()
  private var small: SmallDeflate?

  /// Members of less JSON than this are made by lines that trickle or by jobs that are short: few bytes, so that a
  /// thorough search costs little, and no large member to make up for a poor one.
  private static let smallSize = 128 << 10

  init() { out = .allocate(byteCount: 512 << 10, alignment: 16) }

  deinit { out.deallocate() }

  /// Deflates ``lines`` into a member whose header is completed from `header`. Valid until the next call.
  func finish(_ header: MemberHeader) throws(LocalStoreError) -> (bytes: UnsafeRawBufferPointer, header: MemberHeader) {
    let json = lines.bytes
    guard let jsonLength = UInt32(exactly: json.count), jsonLength > 0 else {
      throw .compression("a member of \(json.count) bytes of JSON")
    }
    // The worst case of deflate is stored blocks: five bytes for each 64 KiB; ISA-L wants some room to work in.
    let bound = json.count + json.count / 8 + 4096 + MemberHeader.byteCount + MemberHeader.trailerLength
    if out.count < bound {
      out.deallocate()
      out = .allocate(byteCount: bound, alignment: 16)
    }
    let room = UnsafeMutableRawBufferPointer(
      rebasing: out[MemberHeader.byteCount..<(out.count - MemberHeader.trailerLength)])
    let deflated = try deflate(json, into: room)
    let length = MemberHeader.byteCount + deflated + MemberHeader.trailerLength
    var header = header
    header.memberLength = UInt64(length)
    header.jsonLength = jsonLength
    header.encode(into: out)
    let trailer = MemberHeader.byteCount + deflated
    out.storeBytes(of: CRC32.update(0, json).littleEndian, toByteOffset: trailer, as: UInt32.self)
    out.storeBytes(of: jsonLength.littleEndian, toByteOffset: trailer + 4, as: UInt32.self)
    return (UnsafeRawBufferPointer(rebasing: out[..<length]), header)
  }

  private func deflate(_ json: UnsafeRawBufferPointer, into out: UnsafeMutableRawBufferPointer) throws(LocalStoreError)
    -> Int
  {
    guard json.count < MemberWriter.smallSize else { return try fast.deflate(json, into: out) }
    let small: SmallDeflate
    if let known = self.small {
      small = known
    } else {
      small = try SmallDeflate()
      self.small = small
    }
    return try small.deflate(json, into: out)
  }
}

/// ISA-L's level 1: four times zlib's speed at its level 1's ratio.
private final class FastDeflate {
  private let stream = UnsafeMutablePointer<isal_zstream>.allocate(capacity: 1)
  private let levelBuffer: UnsafeMutablePointer<UInt8>

  /// ISAL_DEF_LVL1_DEFAULT of igzip_lib.h, whose macro Swift can't read: work tables and 64 Ki tokens of four bytes.
  private static let levelBufferSize = 4 * 1024 + 2 * 8 * 1024 + 4 * 64 * 1024

  init() {
    stream.initialize(to: isal_zstream())
    levelBuffer = .allocate(capacity: FastDeflate.levelBufferSize)
  }

  deinit {
    stream.deallocate()
    levelBuffer.deallocate()
  }

  func deflate(_ input: UnsafeRawBufferPointer, into out: UnsafeMutableRawBufferPointer) throws(LocalStoreError) -> Int
  {
    isal_deflate_stateless_init(stream)
    stream.pointee.level = 1
    stream.pointee.level_buf = levelBuffer
    stream.pointee.level_buf_size = UInt32(FastDeflate.levelBufferSize)
    stream.pointee.gzip_flag = UInt16(IGZIP_DEFLATE)
    stream.pointee.end_of_stream = 1
    stream.pointee.flush = UInt16(NO_FLUSH)
    stream.pointee.next_in = input.baseAddress.map {
      UnsafeMutablePointer(mutating: $0.assumingMemoryBound(to: UInt8.self))
    }
    stream.pointee.avail_in = UInt32(input.count)
    stream.pointee.next_out = out.baseAddress?.assumingMemoryBound(to: UInt8.self)
    stream.pointee.avail_out = UInt32(out.count)
    let code = isal_deflate_stateless(stream)
    guard code == 0, stream.pointee.avail_in == 0 else { throw .compression("isal_deflate_stateless: \(code)") }
    return Int(stream.pointee.total_out)
  }
}

/// zlib's level 6, as `gzip` has it: small members come within a few percent of one large one.
private final class SmallDeflate {
  private let stream = UnsafeMutablePointer<z_stream>.allocate(capacity: 1)

  init() throws(LocalStoreError) {
    stream.initialize(to: z_stream())
    // A negative window size means deflate data alone: header and trailer are ours.
    let code = deflateInit2_(
      stream, 6, Z_DEFLATED, -MAX_WBITS, 8, Z_DEFAULT_STRATEGY, ZLIB_VERSION, CInt(MemoryLayout<z_stream>.size))
    guard code == Z_OK else { throw .compression("deflateInit2: \(code)") }
  }

  deinit {
    deflateEnd(stream)
    stream.deallocate()
  }

  func deflate(_ input: UnsafeRawBufferPointer, into out: UnsafeMutableRawBufferPointer) throws(LocalStoreError) -> Int
  {
    deflateReset(stream)
    stream.pointee.next_in = input.baseAddress.map {
      UnsafeMutablePointer(mutating: $0.assumingMemoryBound(to: UInt8.self))
    }
    stream.pointee.avail_in = UInt32(input.count)
    stream.pointee.next_out = out.baseAddress?.assumingMemoryBound(to: UInt8.self)
    stream.pointee.avail_out = UInt32(out.count)
    let code = CZlib.deflate(stream, Z_FINISH)
    guard code == Z_STREAM_END else { throw .compression("deflate: \(code)") }
    return Int(stream.pointee.total_out)
  }
}

/// Opens members. Its buffers are used again and again.
final class MemberReader {
  private let state = UnsafeMutablePointer<inflate_state>.allocate(capacity: 1)
  private var compressed = UnsafeMutableRawBufferPointer.allocate(byteCount: 0, alignment: 16)
  private var json = UnsafeMutableRawBufferPointer.allocate(byteCount: 0, alignment: 16)

  init() { state.initialize(to: inflate_state()) }

  deinit {
    state.deallocate()
    compressed.deallocate()
    json.deallocate()
  }

  /// Reads and inflates a member. Nil if it is damaged; the bytes are valid until the next call.
  func read(_ file: Descriptor, at offset: UInt64, _ header: MemberHeader) throws(LocalStoreError)
    -> UnsafeRawBufferPointer?
  {
    let length = Int(header.memberLength)
    // A header that lies about its JSON must not cost memory: deflate makes at most 1032 bytes of one.
    guard Int(header.jsonLength) <= length * 1032 else { return nil }
    MemberReader.grow(&compressed, to: length)
    let bytes = UnsafeMutableRawBufferPointer(rebasing: compressed[..<length])
    guard try file.read(into: bytes, at: offset) == length else { return nil }
    MemberReader.grow(&json, to: Int(header.jsonLength))
    let body = UnsafeRawBufferPointer(
      rebasing: bytes[MemberHeader.byteCount..<(length - MemberHeader.trailerLength)])
    guard inflate(body, length: Int(header.jsonLength)) else { return nil }
    let page = UnsafeRawBufferPointer(rebasing: json[..<Int(header.jsonLength)])
    let trailer = length - MemberHeader.trailerLength
    let crc = UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: trailer, as: UInt32.self))
    let size = UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: trailer + 4, as: UInt32.self))
    return size == header.jsonLength && crc == CRC32.update(0, page) ? page : nil
  }

  /// Members are of about one size, so the first mostly makes room for all: a little more than it needs itself.
  private static func grow(_ buffer: inout UnsafeMutableRawBufferPointer, to count: Int) {
    guard buffer.count < count else { return }
    buffer.deallocate()
    buffer = .allocate(byteCount: count + count / 8, alignment: 16)
  }

  private func inflate(_ body: UnsafeRawBufferPointer, length: Int) -> Bool {
    isal_inflate_init(state)
    state.pointee.next_in = body.baseAddress.map {
      UnsafeMutablePointer(mutating: $0.assumingMemoryBound(to: UInt8.self))
    }
    state.pointee.avail_in = UInt32(body.count)
    state.pointee.next_out = json.baseAddress?.assumingMemoryBound(to: UInt8.self)
    state.pointee.avail_out = UInt32(length)
    state.pointee.crc_flag = 0
    let code = isal_inflate_stateless(state)
    return code == 0 && state.pointee.block_state == ISAL_BLOCK_FINISH && Int(state.pointee.total_out) == length
  }
}
