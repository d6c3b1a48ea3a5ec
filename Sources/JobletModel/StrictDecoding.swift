/// A value that was refused, in words that name the field and what is allowed there.
public struct ValidationError: Error, Hashable, Sendable, CustomStringConvertible {
  /// Where, as a path: `limits.pids`. Empty for the whole document.
  public var field: String
  /// What was wrong and what is allowed, as a sentence without its full stop.
  public var message: String

  public init(field: String, message: String) {
    self.field = field
    self.message = message
  }

  public var description: String { field.isEmpty ? message : "\(field): \(message)" }
}

/// A coding key of any name: to see the names a document really has.
public struct AnyCodingKey: CodingKey {
  public var stringValue: String
  public var intValue: Int? { nil }
  public init(stringValue: String) { self.stringValue = stringValue }
  public init?(intValue: Int) { nil }
}

extension Decoder {
  /// Refuses a document with a field that `Keys` does not know: a misspelt limit must not be a limit ignored.
  /// - Throws: ``ValidationError`` naming the field and the known ones.
  public func refuseUnknownFields<Keys: CodingKey & CaseIterable>(_ keys: Keys.Type) throws {
    let known = Keys.allCases.map(\.stringValue)
    let container = try self.container(keyedBy: AnyCodingKey.self)
    guard let unknown = container.allKeys.map(\.stringValue).sorted().first(where: { !known.contains($0) }) else {
      return
    }
    let path = (codingPath.map(\.stringValue) + [unknown]).joined(separator: ".")
    throw ValidationError(field: path, message: "unknown field; known here: \(known.joined(separator: ", "))")
  }
}
