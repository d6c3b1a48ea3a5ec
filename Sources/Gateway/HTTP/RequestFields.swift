import HTTPTypes
import JobletModel
import JobletWire

/// Header fields of requests, read once and in one way. Each is a pure function over outside bytes.
public enum RequestFields {
  /// The value of `Idempotency-Key`: as it is, or a string in quotes, as the draft of the field has it.
  /// - Throws: ``JobletModel/Problem`` for what is no key: a client that believes itself safe must not be wrong.
  public static func idempotencyKey(_ value: String?) throws(Problem) -> String? {
    guard let value else { return nil }
    let isQuoted = value.count >= 2 && value.hasPrefix("\"") && value.hasSuffix("\"")
    let key = isQuoted ? String(value.dropFirst().dropLast()) : value
    // No comma and no space: two fields of the name arrive as one with a comma, and which one was meant nobody knows.
    let isAllowed = key.utf8.allSatisfy { (0x21...0x7E).contains($0) && !"\",\\".utf8.contains($0) }
    guard RunRequest.keyLength.contains(key.utf8.count), isAllowed else {
      throw Problem(
        .badRequest,
        "Idempotency-Key: not allowed; send one key of 1 to \(RunRequest.keyLength.upperBound) ASCII characters without spaces, commas, quotes and backslashes",
        field: "Idempotency-Key")
    }
    return key
  }

  /// The longest wait for a job's end, in seconds: proxies give up silent requests not much later.
  public static let maxWait = 60

  /// The preference `wait` (RFC 7240, section 4.3), in seconds and at most ``maxWait``. Nil where there is none that can be
  /// read: a preference that is not understood is ignored (section 2).
  public static func wait(_ prefer: String?) -> Int? {
    guard let prefer else { return nil }
    for preference in prefer.split(separator: ",").prefix(32) {
      // Behind ';' are parameters, of which `wait` has none.
      let pair = preference.prefix { $0 != ";" }.split(separator: "=", maxSplits: 1).map(trimmed)
      guard pair.first?.lowercased() == "wait" else { continue }
      // Of two, the first counts (section 2).
      guard pair.count == 2 else { return nil }
      var digits = pair[1][...]
      if digits.count >= 2, digits.first == "\"", digits.last == "\"" { digits = digits.dropFirst().dropLast() }
      guard !digits.isEmpty, digits.utf8.allSatisfy({ (0x30...0x39).contains($0) }) else { return nil }
      return min(Int(digits) ?? maxWait, maxWait)
    }
    return nil
  }

  /// Whether a client that sends this `If-None-Match` has the representation already (RFC 9110, section 13.1.2: weak
  /// comparison).
  public static func hasMatch(_ ifNoneMatch: String, _ tag: String) -> Bool {
    func opaque(_ tag: Substring) -> Substring { tag.hasPrefix("W/") ? tag.dropFirst(2) : tag }
    return ifNoneMatch.split(separator: ",").prefix(64).contains { field in
      let field = trimmed(field)
      return field == "*" || opaque(field[...]) == opaque(tag[...])
    }
  }

  /// Whether a body may be sent with `Content-Encoding: gzip`: only to whoever names it, or everything, and likes it no less
  /// than the plain body (RFC 9110, section 12.5.3).
  public static func acceptsGzip(_ acceptEncoding: String?) -> Bool {
    guard let acceptEncoding else { return false }
    var gzip: Double?
    var identity: Double?
    var others: Double?
    for coding in acceptEncoding.split(separator: ",").prefix(32) {
      let parts = coding.split(separator: ";").map(trimmed)
      guard let name = parts.first?.lowercased() else { continue }
      let weight = parts.dropFirst().first { $0.lowercased().hasPrefix("q=") }
      let quality = weight.map { Double($0.dropFirst(2)) ?? 0 } ?? 1
      switch name {
      case "gzip", "x-gzip": gzip = quality
      case "identity": identity = quality
      case "*": others = quality
      default: break
      }
    }
    let quality = gzip ?? others ?? 0
    return quality > 0 && quality >= identity ?? 0
  }

  private static func trimmed(_ text: Substring) -> String {
    var text = text.drop { $0 == " " || $0 == "\t" }
    while let last = text.last, last == " " || last == "\t" { text.removeLast() }
    return String(text)
  }
}

extension HTTPField.Name {
  /// A literal that is known to be a field name.
  static func known(_ name: String) -> HTTPField.Name {
    guard let name = HTTPField.Name(name) else { preconditionFailure("not a field name: \(name)") }
    return name
  }

  static let idempotencyKey = known("Idempotency-Key")
  static let idempotencyReplayed = known("Idempotency-Replayed")
  static let prefer = known("Prefer")
  static let preferenceApplied = known("Preference-Applied")
  static let traceparent = known("traceparent")
}
