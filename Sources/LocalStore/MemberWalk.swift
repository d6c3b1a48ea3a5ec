import CGNU
import Glibc
import JobletModel
import LogStore

/// A member and where in its file it begins.
struct MemberPlace: Hashable {
  var header: MemberHeader
  var offset: UInt64

  /// Where the next member begins.
  var end: UInt64 { offset + header.memberLength }
}

/// Goes through a file's members from front to back by their headers alone.
struct MemberWalk {
  enum Step: Hashable {
    case member(MemberPlace)
    /// Bytes that are no member, with members behind them: the numbers between the neighbours are lost.
    case damage(firstSeq: UInt64, lastSeq: UInt64, offset: UInt64)
    /// Still looking for the next member behind damage; ask again.
    case searching
    /// Nothing whole from here on: the end of the file, or a torn tail.
    case end(offset: UInt64)
  }

  private let file: Descriptor
  private let length: UInt64
  private var offset: UInt64
  /// Behind the header of the last member that was given.
  private var behindHeader: UInt64 = 0
  private var lastSeq: UInt64
  private var pending: MemberPlace?
  private var search: UInt64?

  /// - Parameters:
  ///   - length: how much of the file counts; what lies behind it is not looked at.
  ///   - start: a place to begin at instead of the file's start: a member begins there.
  init(_ file: Descriptor, length: UInt64, from start: MemberPlace? = nil) {
    self.file = file
    self.length = length
    offset = start?.offset ?? 0
    lastSeq = start.map { $0.header.firstSeq - 1 } ?? 0
  }

  /// The next step; a bounded amount of work.
  mutating func next() throws(LocalStoreError) -> Step {
    if let place = pending {
      pending = nil
      return take(place)
    }
    if search == nil {
      if let header = try MemberScan.header(file, at: offset, length: length) {
        return take(MemberPlace(header: header, offset: offset))
      }
      guard offset < length else { return .end(offset: offset) }
      // From inside the last member on: where bytes of it are gone, the next one begins before the place it should.
      search = behindHeader
    }
    guard let from = search else { return .searching }
    switch try MemberScan.forward(file, from: from, length: length) {
    case .none: return .end(offset: offset)
    case .goOn(let next):
      search = next
      return .searching
    case .found(let place):
      search = nil
      let damaged = offset
      // A neighbour that repeats numbers is still a neighbour; there is then nothing to report between the two.
      guard place.header.firstSeq > lastSeq + 1 else { return take(place) }
      pending = place
      return .damage(firstSeq: lastSeq + 1, lastSeq: place.header.firstSeq - 1, offset: damaged)
    }
  }

  private mutating func take(_ place: MemberPlace) -> Step {
    offset = place.end
    behindHeader = place.offset + UInt64(MemberHeader.byteCount)
    lastSeq = place.header.lastSeq
    return .member(place)
  }
}

/// Finds headers in a file.
enum MemberScan {
  enum Found: Hashable {
    case found(MemberPlace)
    /// Not in what was read; to go on from here.
    case goOn(UInt64)
    case none
  }

  /// Bytes read at once, and how many such reads one call makes.
  private static let window = 256 << 10
  private static let windowsPerCall = 16

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
  static func forward(_ file: Descriptor, from start: UInt64, length: UInt64) throws(LocalStoreError) -> Found {
    let window = UnsafeMutableRawBufferPointer.allocate(byteCount: window, alignment: 16)
    defer { window.deallocate() }
    var position = start
    for _ in 0..<windowsPerCall {
      guard position < length else { return .none }
      let count = try file.read(into: window, at: position)
      for index in signatures(in: UnsafeRawBufferPointer(rebasing: window[..<count])) {
        let offset = position + UInt64(index)
        if let header = try header(file, at: offset, length: length) {
          return .found(MemberPlace(header: header, offset: offset))
        }
      }
      guard count == window.count else { return .none }
      position += UInt64(count - MemberHeader.signature.count + 1)
    }
    return .goOn(position)
  }

  /// The last place before `limit` where a member begins that ends at `bound` or before.
  static func backward(_ file: Descriptor, before limit: UInt64, bound: UInt64) throws(LocalStoreError) -> Found {
    let window = UnsafeMutableRawBufferPointer.allocate(byteCount: window, alignment: 16)
    defer { window.deallocate() }
    var limit = limit
    for _ in 0..<windowsPerCall {
      guard limit > 0 else { return .none }
      // A signature may begin right before `limit` and reach over it.
      let overlap = UInt64(MemberHeader.signature.count - 1)
      let step = UInt64(window.count) - overlap
      let start = limit > step ? limit - step : 0
      let wanted = Int(limit - start + overlap)
      let count = try file.read(into: UnsafeMutableRawBufferPointer(rebasing: window[..<wanted]), at: start)
      for index in signatures(in: UnsafeRawBufferPointer(rebasing: window[..<count])).reversed() {
        let offset = start + UInt64(index)
        if offset < limit, let header = try header(file, at: offset, length: bound) {
          return .found(MemberPlace(header: header, offset: offset))
        }
      }
      limit = start
    }
    return limit > 0 ? .goOn(limit) : .none
  }

  /// True if a file in which no whole member was found is none of the store's: it neither begins like one, as a torn first
  /// member does, nor with zeros, as a power cut may leave it.
  static func isForeign(_ file: Descriptor) throws(LocalStoreError) -> Bool {
    let window = UnsafeMutableRawBufferPointer.allocate(byteCount: 4096, alignment: 16)
    defer { window.deallocate() }
    let head = UnsafeRawBufferPointer(rebasing: window[..<(try file.read(into: window, at: 0))])
    return !head.starts(with: MemberHeader.signature.prefix(head.count)) && head.contains { $0 != 0 }
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

/// Goes from one whole member to those before it, by what their headers say of their neighbours. What does not fit
/// together is nil: there is damage between, and only a walk tells of it.
struct MemberChain {
  let file: Descriptor
  let length: UInt64

  /// The member right before a place.
  func before(_ place: MemberPlace) throws(LocalStoreError) -> MemberPlace? {
    let back = place.header.previousLength
    guard back > 0, back <= place.offset, let found = try at(place.offset - back, before: place),
      found.end == place.offset, found.header.index + 1 == place.header.index
    else { return nil }
    return found
  }

  /// The member 64 places back, if this one has a skip pointer.
  func skippingBack(_ place: MemberPlace) throws(LocalStoreError) -> MemberPlace? {
    let skip = place.header.skip
    guard skip > 0, skip <= place.offset, let found = try at(place.offset - skip, before: place),
      found.header.index + MemberHeader.skipInterval == place.header.index
    else { return nil }
    return found
  }

  private func at(_ offset: UInt64, before place: MemberPlace) throws(LocalStoreError) -> MemberPlace? {
    guard let header = try MemberScan.header(file, at: offset, length: place.offset),
      header.lastSeq < place.header.firstSeq
    else { return nil }
    return MemberPlace(header: header, offset: offset)
  }
}
