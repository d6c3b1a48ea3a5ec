import JobletModel
import LogStore

/// A file's members in a range, as they were when it was opened.
///
/// A range is found from the file's end by skip pointers, so that it costs a header for every 64 members that lie behind it
/// and a few more; what is not wanted is never inflated. Where headers do not fit together a walk from the file's start
/// tells what is damaged.
enum MemberPages {
  static func open(_ file: Descriptor, _ range: LogRange, _ order: QueryOrder) throws(LocalStoreError) -> any LogPages {
    let length = try file.fileLength()
    switch order {
    case .ascending: return ForwardPages(file, length: length, range)
    case .descending: return BackwardPages(file, length: length, range)
    }
  }

  /// Headers one call looks at.
  static let headersPerCall = 256

  static func info(_ header: MemberHeader) -> LogPageInfo {
    LogPageInfo(
      firstSeq: header.firstSeq, lastSeq: header.lastSeq, count: Int(header.count), earliest: header.earliest,
      latest: header.latest, isPlain: header.flags.contains(.isPlain))
  }

  static func damage(_ first: UInt64, _ last: UInt64) -> LogPageInfo {
    LogPageInfo(
      firstSeq: first, lastSeq: last, count: 0, earliest: Timestamp(nanoseconds: .min),
      latest: Timestamp(nanoseconds: .max), isMissing: true)
  }
}

final class NoPages: LogPages {
  func next() -> LogPageStep { .end }
  func load() -> UnsafeRawBufferPointer? { nil }
}

/// Whether members lie wholly before a range or wholly behind it.
struct MemberBounds {
  let range: LogRange
  /// The file says that its times run forward. Until that is known, only numbers tell a member's place.
  var isInOrderOfTime = false

  func isBefore(_ header: MemberHeader) -> Bool {
    if header.lastSeq <= range.after { return true }
    if isInOrderOfTime, let since = range.since { return header.latest < since }
    return false
  }

  func isBehind(_ header: MemberHeader) -> Bool {
    if header.firstSeq > range.through { return true }
    if isInOrderOfTime, let until = range.until { return header.earliest > until }
    return false
  }
}

/// The oldest member first.
private final class ForwardPages: LogPages {
  private enum State {
    case begin
    /// Looking for the file's last member, backwards from here.
    case findingEnd(UInt64)
    /// Going back to where the range begins: this member is not before it.
    case seeking(MemberPlace)
    case walking(MemberWalk)
    case ended
  }
  private let file: Descriptor
  private let length: UInt64
  private var bounds: MemberBounds
  private let chain: MemberChain
  private var state = State.begin
  private var place: MemberPlace?
  private let reader = MemberReader()

  init(_ file: Descriptor, length: UInt64, _ range: LogRange) {
    self.file = file
    self.length = length
    bounds = MemberBounds(range: range)
    chain = MemberChain(file: file, length: length)
  }

  func load() throws -> UnsafeRawBufferPointer? {
    try place.flatMap { try reader.read(file, at: $0.offset, $0.header) }
  }

  func next() throws -> LogPageStep {
    place = nil
    for _ in 0..<MemberPages.headersPerCall {
      switch state {
      case .begin: state = needsSeek ? .findingEnd(length) : .walking(MemberWalk(file, length: length))
      case .findingEnd(let limit): state = try findEnd(before: limit)
      case .seeking(let current): state = try seek(current)
      case .walking(var walk):
        state = .ended
        let step = try walk.next()
        state = .walking(walk)
        if let page = try take(step) { return page }
      case .ended: return .end
      }
    }
    return .working
  }

  private var needsSeek: Bool {
    bounds.range.after > 0 || bounds.range.since != nil || bounds.range.until != nil
  }

  private func findEnd(before limit: UInt64) throws(LocalStoreError) -> State {
    switch try MemberScan.backward(file, before: limit, bound: length) {
    case .none:
      if length > 0, try MemberScan.isForeign(file) { throw .foreign(path: file.path) }
      return .ended
    case .goOn(let limit): return .findingEnd(limit)
    case .found(let last):
      bounds.isInOrderOfTime = last.header.flags.contains(.inOrderOfTime)
      // What lies behind the last member is torn: there is nothing of the range in it.
      return bounds.isBefore(last.header) ? .ended : .seeking(last)
    }
  }

  /// One hop towards the file's start.
  private func seek(_ current: MemberPlace) throws(LocalStoreError) -> State {
    if current.offset == 0 { return .walking(MemberWalk(file, length: length)) }
    if let far = try chain.skippingBack(current) {
      return bounds.isBefore(far.header) ? .walking(MemberWalk(file, length: length, from: far)) : .seeking(far)
    }
    guard let near = try chain.before(current) else { return .walking(MemberWalk(file, length: length)) }
    return bounds.isBefore(near.header) ? .walking(MemberWalk(file, length: length, from: current)) : .seeking(near)
  }

  private func take(_ step: MemberWalk.Step) throws(LocalStoreError) -> LogPageStep? {
    switch step {
    case .searching: return nil
    case .end(let offset):
      state = .ended
      if offset == 0, length > 0, try MemberScan.isForeign(file) { throw .foreign(path: file.path) }
      return nil
    case .damage(let first, let last, _):
      let info = MemberPages.damage(first, last)
      return bounds.range.mayHold(info) ? .page(info) : nil
    case .member(let found):
      if bounds.isBehind(found.header) {
        state = .ended
        return nil
      }
      let info = MemberPages.info(found.header)
      guard bounds.range.mayHold(info) else { return nil }
      place = found
      return .page(info)
    }
  }
}

/// The newest member first.
private final class BackwardPages: LogPages {
  private enum State {
    /// Looking for a member, backwards from `limit`, that ends at `bound` or before. `behind` is the member that stands
    /// behind the damage, nil at the file's end.
    case finding(limit: UInt64, bound: UInt64, behind: MemberPlace?)
    /// This member comes next.
    case at(MemberPlace)
    /// This member was given (or passed over); on to the one before it.
    case passed(MemberPlace)
    case ended
  }
  private let file: Descriptor
  private var bounds: MemberBounds
  private let chain: MemberChain
  private var state: State
  private var place: MemberPlace?
  private let reader = MemberReader()

  init(_ file: Descriptor, length: UInt64, _ range: LogRange) {
    self.file = file
    bounds = MemberBounds(range: range)
    chain = MemberChain(file: file, length: length)
    state = .finding(limit: length, bound: length, behind: nil)
  }

  func load() throws -> UnsafeRawBufferPointer? {
    try place.flatMap { try reader.read(file, at: $0.offset, $0.header) }
  }

  func next() throws -> LogPageStep {
    place = nil
    for _ in 0..<MemberPages.headersPerCall {
      switch state {
      case .finding(let limit, let bound, let behind):
        if let page = try find(limit, bound, behind) { return page }
        // Searching reads megabytes where the rest reads headers: one is enough for a call.
        if case .finding = state { return .working }
      case .at(let current):
        if bounds.isBefore(current.header) {
          state = .ended
        } else if bounds.isBehind(current.header), let far = try chain.skippingBack(current),
          bounds.isBehind(far.header)
        {
          state = .at(far)
        } else {
          state = .passed(current)
          let info = MemberPages.info(current.header)
          guard bounds.range.mayHold(info) else { continue }
          place = current
          return .page(info)
        }
      case .passed(let current):
        if current.offset == 0 {
          state = .ended
        } else if let before = try chain.before(current) {
          state = .at(before)
        } else {
          state = .finding(limit: current.offset, bound: current.offset, behind: current)
        }
      case .ended: return .end
      }
    }
    return .working
  }

  /// One look for the next member; answers the damage that lies between it and the one behind.
  private func find(_ limit: UInt64, _ bound: UInt64, _ behind: MemberPlace?) throws(LocalStoreError) -> LogPageStep? {
    var lastSeq: UInt64 = 0
    switch try MemberScan.backward(file, before: limit, bound: bound) {
    case .goOn(let limit):
      state = .finding(limit: limit, bound: bound, behind: behind)
      return nil
    case .none:
      state = .ended
      if behind == nil, bound > 0, try MemberScan.isForeign(file) { throw .foreign(path: file.path) }
    case .found(let found):
      if let behind, found.header.lastSeq >= behind.header.firstSeq {
        // Its numbers do not belong before the others: look on.
        state = .finding(limit: found.offset, bound: bound, behind: behind)
        return nil
      }
      if behind == nil { bounds.isInOrderOfTime = found.header.flags.contains(.inOrderOfTime) }
      lastSeq = found.header.lastSeq
      state = .at(found)
    }
    guard let behind, behind.header.firstSeq > lastSeq + 1 else { return nil }
    let info = MemberPages.damage(lastSeq + 1, behind.header.firstSeq - 1)
    return bounds.range.mayHold(info) ? .page(info) : nil
  }
}
