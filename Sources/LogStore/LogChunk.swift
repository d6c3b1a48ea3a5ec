import JobletModel

/// A fixed piece of memory that chunks of lines are appended to and never moved in.
///
/// Safe to share: a byte is written once, before the chunk that covers it is handed to anyone; ``append(_:)`` is called by
/// one owner at a time, under that owner's lock, and only ever writes behind what was handed out.
public final class ByteBlock: @unchecked Sendable {
  private let base: UnsafeMutableRawPointer
  public let capacity: Int
  private var used = 0

  public init(capacity: Int) {
    self.capacity = max(capacity, 1)
    base = .allocate(byteCount: self.capacity, alignment: 16)
  }

  deinit { base.deallocate() }

  /// Bytes that still fit.
  public var room: Int { capacity - used }

  /// Copies `bytes` behind what is there and answers their offset; they must fit into ``room``.
  public func append(_ bytes: UnsafeRawBufferPointer) -> Int {
    precondition(bytes.count <= room)
    let offset = used
    if let source = bytes.baseAddress { (base + offset).copyMemory(from: source, byteCount: bytes.count) }
    used += bytes.count
    return offset
  }

  func bytes(_ offset: Int, _ length: Int) -> UnsafeRawBufferPointer {
    UnsafeRawBufferPointer(start: base + offset, count: length)
  }
}

/// A run of one stream's lines in memory: what it says of itself, and where its bytes are.
public struct LogChunk: Sendable {
  public let info: StoredChunkInfo
  private let block: ByteBlock
  private let offset: Int
  /// The payload's length in bytes.
  public let length: Int

  /// - Parameter info: for a log's chunk the payload is raw lines; for metrics it is whole JSON lines, kept as they are.
  public init(_ info: StoredChunkInfo, block: ByteBlock, offset: Int, length: Int) {
    self.info = info
    self.block = block
    self.offset = offset
    self.length = length
  }

  /// A chunk with memory of its own.
  public init(_ info: StoredChunkInfo, copying bytes: UnsafeRawBufferPointer) {
    let block = ByteBlock(capacity: bytes.count)
    self.init(info, block: block, offset: block.append(bytes), length: bytes.count)
  }

  public func withBytes<Result>(_ body: (UnsafeRawBufferPointer) throws -> Result) rethrows -> Result {
    try withExtendedLifetime(block) { try body(block.bytes(offset, length)) }
  }

  /// A chunk of a log with memory of its own.
  public init(_ info: LogChunkInfo, copying bytes: UnsafeRawBufferPointer) {
    self.init(StoredChunkInfo(info), copying: bytes)
  }

  /// Appends the chunk's JSON lines.
  public func encode(into encoder: inout LogLineEncoder) {
    withBytes { bytes in
      if let log = info.log { encoder.append(log, payload: bytes) } else { encoder.append(lines: bytes) }
    }
  }

  /// About how many bytes of JSON the lines become: the text, and what stands around each line.
  public var estimatedJSON: Int { info.stream == .metrics ? length : length + Int(info.count) * 96 }
}
