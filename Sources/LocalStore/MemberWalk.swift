import CGNU
import Glibc
import JobletModel
import LogStore

/// Finds members in a log file by their headers alone.
struct MemberWalk {
  enum Step: Hashable {
    case member(MemberHeader, offset: UInt64)
    /// Bytes that are no member, with members behind them: the numbers between the neighbours are lost.
    case damage(firstSeq: UInt64, lastSeq: UInt64, offset: UInt64)
    /// Nothing whole from here on: the end of the file, or a torn tail.
    case end(offset: UInt64)
  }

  private let file: Descriptor
  private let length: UInt64
  private var offset: UInt64 = 0
  private var lastSeq: UInt64 = 0
  private var pending: (MemberHeader, UInt64)?

  /// - Parameter length: how much of the file counts; what lies behind it is not looked at.
  init(_ file: Descriptor, length: UInt64) {
    self.file = file
    self.length = length
  }

  mutating func next() throws(LocalStoreError) -> Step {
    if let (header, at) = pending {
      pending = nil
      return take(header, at)
    }
    if let header = try MemberWalk.header(file, at: offset, length: length) { return take(header, offset) }
    guard offset < length, let (header, found) = try search(from: offset + 1) else { return .end(offset: offset) }
    let damaged = offset
    // A neighbour that repeats numbers is still a neighbour; there is then nothing to report between the two.
    guard header.firstSeq > lastSeq + 1 else { return take(header, found) }
    pending = (header, found)
    return .damage(firstSeq: lastSeq + 1, lastSeq: header.firstSeq - 1, offset: damaged)
  }

  private mutating func take(_ header: MemberHeader, _ at: UInt64) -> Step {
    offset = at + header.memberLength
    lastSeq = header.lastSeq
    return .member(header, offset: at)
  }

  /// The header at an offset, if a whole member can stand there.
  static func header(_ file: Descriptor, at offset: UInt64, length: UInt64) throws(LocalStoreError) -> MemberHeader? {
    guard offset < length, length - offset > UInt64(MemberHeader.byteCount) else { return nil }
    var bytes = (SIMD64<UInt8>(), SIMD32<UInt8>())  // 96 bytes on the stack
    let result: Result<MemberHeader?, LocalStoreError> = withUnsafeMutableBytes(of: &bytes) { buffer in
      do throws(LocalStoreError) {
        let whole = UnsafeMutableRawBufferPointer(rebasing: buffer[..<MemberHeader.byteCount])
        guard try file.read(into: whole, at: offset) == whole.count else { return .success(nil) }
        return .success(MemberHeader(UnsafeRawBufferPointer(whole)))
      } catch {
        return .failure(error)
      }
    }
    guard let header = try result.get(), header.memberLength <= length - offset else { return nil }
    return header
  }

  /// The next place from `start` on where a member begins.
  private func search(from start: UInt64) throws(LocalStoreError) -> (MemberHeader, UInt64)? {
    let window = UnsafeMutableRawBufferPointer.allocate(byteCount: 256 << 10, alignment: 16)
    defer { window.deallocate() }
    var position = start
    while position < length {
      let count = try file.read(into: window, at: position)
      for index in MemberWalk.signatures(in: UnsafeRawBufferPointer(rebasing: window[..<count])) {
        if let header = try MemberWalk.header(file, at: position + UInt64(index), length: length) {
          return (header, position + UInt64(index))
        }
      }
      guard count == window.count else { return nil }
      position += UInt64(count - MemberHeader.signature.count + 1)
    }
    return nil
  }

  /// The last member of a file, found from its end: the one whose length reaches exactly there. Nil if the tail is torn
  /// or damaged.
  static func last(_ file: Descriptor, length: UInt64) throws(LocalStoreError) -> (MemberHeader, UInt64)? {
    var size: UInt64 = 128 << 10
    while true {
      let start = length > size ? length - size : 0
      let window = UnsafeMutableRawBufferPointer.allocate(byteCount: Int(length - start), alignment: 16)
      defer { window.deallocate() }
      let count = try file.read(into: window, at: start)
      for index in signatures(in: UnsafeRawBufferPointer(rebasing: window[..<count])).reversed() {
        let offset = start + UInt64(index)
        if let header = try header(file, at: offset, length: length), offset + header.memberLength == length {
          return (header, offset)
        }
      }
      // A member is some hundred KiB; one of a giant line may be larger, but not without bound.
      guard start > 0, size < 16 << 20 else { return nil }
      size *= 4
    }
  }

  private static func signatures(in bytes: UnsafeRawBufferPointer) -> [Int] {
    guard let base = bytes.baseAddress else { return [] }
    var found: [Int] = []
    MemberHeader.signature.withUnsafeBytes { signature in
      var from = 0
      while from < bytes.count,
        let hit = memmem(base + from, bytes.count - from, signature.baseAddress, signature.count)
      {
        found.append(UnsafeRawPointer(hit) - base)
        from = (UnsafeRawPointer(hit) - base) + 1
      }
    }
    return found
  }
}
