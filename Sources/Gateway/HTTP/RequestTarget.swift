import JobletModel

/// The path and query of a request, decoded (RFC 3986). A pure function over outside bytes; it refuses what it can't read
/// rather than guess, so that no two parts of the system can read one target in two ways.
public struct RequestTarget: Sendable, Hashable {
  /// The path's segments, percent-decoded, without the leading slash: `/v1/jobs` is `["v1", "jobs"]`.
  public var segments: [String]
  public var query: [QueryItem]

  public struct QueryItem: Sendable, Hashable {
    public var name: String
    public var value: String

    public init(name: String, value: String) {
      self.name = name
      self.value = value
    }
  }

  /// The longest target read, in bytes.
  public static let maxLength = 8192

  /// - Throws: ``Problem`` of kind `bad-request` or `invalid-field`.
  public init(_ text: String) throws(Problem) {
    guard text.utf8.count <= RequestTarget.maxLength else {
      throw Problem(.badRequest, "the request's target is over \(RequestTarget.maxLength) bytes")
    }
    guard text.utf8.first == UInt8(ascii: "/") else {
      throw Problem(.badRequest, "the request's target must start with '/'")
    }
    if let plain = RequestTarget.plainSegments(text) {
      segments = plain
      query = []
      return
    }
    let halves = text.split(separator: "?", maxSplits: 1, omittingEmptySubsequences: false)
    var segments: [String] = []
    for part in halves[0].dropFirst().split(separator: "/", omittingEmptySubsequences: false) {
      let segment = try RequestTarget.decode(part, plusIsSpace: false)
      guard segment != ".", segment != "..", !segment.utf8.contains(where: { $0 < 0x20 || $0 == 0x7F }) else {
        throw Problem(.badRequest, "the path has a segment that is not allowed: '.', '..' and control characters")
      }
      segments.append(segment)
    }
    self.segments = segments
    query = halves.count > 1 ? try RequestTarget.items(halves[1]) : []
  }

  /// The segments of a path of letters, digits, `-` and `_`, as most are, read in one go. Nil for any other.
  private static func plainSegments(_ text: String) -> [String]? {
    var text = text
    return text.withUTF8 { bytes -> [String]? in
      var segments: [String] = []
      segments.reserveCapacity(4)
      var start = 1
      for index in 1...bytes.count {
        switch index < bytes.count ? bytes[index] : UInt8(ascii: "/") {
        case UInt8(ascii: "/"):
          segments.append(String(decoding: UnsafeBufferPointer(rebasing: bytes[start..<index]), as: UTF8.self))
          start = index + 1
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
          UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "_"):
          break
        default: return nil
        }
      }
      return segments
    }
  }

  private static func items(_ text: Substring) throws(Problem) -> [QueryItem] {
    var items: [QueryItem] = []
    for pair in text.split(separator: "&") {
      let halves = pair.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
      let name = try decode(halves[0], plusIsSpace: true)
      guard !items.contains(where: { $0.name == name }) else {
        throw Problem(.invalidField, "\(name.prefix(64)): given twice; once is allowed", field: String(name.prefix(64)))
      }
      items.append(QueryItem(name: name, value: halves.count > 1 ? try decode(halves[1], plusIsSpace: true) : ""))
    }
    return items
  }

  private static func decode(_ text: Substring, plusIsSpace: Bool) throws(Problem) -> String {
    var bytes: [UInt8] = []
    bytes.reserveCapacity(text.utf8.count)
    var iterator = text.utf8.makeIterator()
    while let byte = iterator.next() {
      switch byte {
      case UInt8(ascii: "%"):
        guard let high = iterator.next().flatMap(Hex.value), let low = iterator.next().flatMap(Hex.value) else {
          throw Problem(.badRequest, "a '%' in the request's target is not followed by two hexadecimal digits")
        }
        bytes.append(high << 4 | low)
      case UInt8(ascii: "+") where plusIsSpace:
        bytes.append(UInt8(ascii: " "))
      default:
        bytes.append(byte)
      }
    }
    guard let decoded = String(validating: bytes, as: UTF8.self) else {
      throw Problem(.badRequest, "the request's target is not UTF-8")
    }
    return decoded
  }
}

/// A query's values by name, each read once, so that what nobody reads is refused: a misspelt filter must not be no filter.
struct QueryReader {
  private var left: [RequestTarget.QueryItem]
  private let known: [String]

  /// - Throws: ``Problem`` naming the first parameter that is not in `known`.
  init(_ target: RequestTarget, known: [String]) throws(Problem) {
    left = target.query
    self.known = known
    guard let unknown = left.first(where: { !known.contains($0.name) }) else { return }
    let name = String(unknown.name.prefix(64))
    let allowed = known.isEmpty ? "none is known here" : "known here: \(known.joined(separator: ", "))"
    throw Problem(.invalidField, "\(name): unknown query parameter; \(allowed)", field: name)
  }

  func text(_ name: String) -> String? { left.first { $0.name == name }?.value }

  func value<Value>(_ name: String, _ allowed: String, _ read: (String) -> Value?) throws(Problem) -> Value? {
    guard let text = text(name) else { return nil }
    guard let value = read(text) else {
      throw Problem(.invalidField, "\(name): '\(text.prefix(64))' is not allowed; allowed is \(allowed)", field: name)
    }
    return value
  }

  func number(_ name: String, _ range: ClosedRange<Int>) throws(Problem) -> Int? {
    try value(name, "\(range.lowerBound) to \(range.upperBound)") { text in
      Int(text).flatMap { range.contains($0) ? $0 : nil }
    }
  }

  func flag(_ name: String) throws(Problem) -> Bool? {
    try value(name, "true or false") { text in
      switch text {
      case "true", "1": true
      case "false", "0": false
      default: nil
      }
    }
  }
}
