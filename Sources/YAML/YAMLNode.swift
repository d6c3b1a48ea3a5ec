/// A YAML document as a tree: what libyaml read, with the places it stood at. Scalars are text; what a plain one means (a
/// number, a truth, nothing) is for whoever knows the key.
///
/// Two nodes are equal if they say the same, wherever they stand.
public enum YAMLNode: Sendable, Hashable {
  case scalar(Scalar)
  case mapping(Mapping)
  case sequence(Sequence)

  /// Where something stands; both from 1.
  public struct Mark: Sendable, Hashable {
    public var line: Int
    public var column: Int

    public init(line: Int, column: Int) {
      self.line = line
      self.column = column
    }
  }

  public struct Scalar: Sendable, Hashable {
    public var string: String
    /// Written without quotes and not as a block: then `~` and `null` are nothing.
    public var isPlain: Bool
    public var mark: Mark

    public static func == (a: Scalar, b: Scalar) -> Bool { a.string == b.string && a.isPlain == b.isPlain }
    public func hash(into hasher: inout Hasher) { hasher.combine(string) }
  }

  /// Keys and values in the order of the document; no key is there twice.
  public struct Mapping: Sendable, Hashable, RandomAccessCollection {
    public private(set) var keys: [YAMLNode] = []
    public private(set) var values: [YAMLNode] = []
    public var mark: Mark

    public var startIndex: Int { 0 }
    public var endIndex: Int { keys.count }
    public subscript(position: Int) -> (key: YAMLNode, value: YAMLNode) { (keys[position], values[position]) }
    /// The value of a key that is this text.
    public subscript(key: String) -> YAMLNode? { keys.firstIndex { $0.string == key }.map { values[$0] } }

    init(mark: Mark) { self.mark = mark }

    mutating func append(_ key: YAMLNode, _ value: YAMLNode) {
      keys.append(key)
      values.append(value)
    }

    public static func == (a: Mapping, b: Mapping) -> Bool { a.keys == b.keys && a.values == b.values }
    public func hash(into hasher: inout Hasher) {
      hasher.combine(keys)
      hasher.combine(values)
    }
  }

  public struct Sequence: Sendable, Hashable, RandomAccessCollection {
    public var items: [YAMLNode]
    public var mark: Mark

    public var startIndex: Int { 0 }
    public var endIndex: Int { items.count }
    public subscript(position: Int) -> YAMLNode { items[position] }

    public static func == (a: Sequence, b: Sequence) -> Bool { a.items == b.items }
    public func hash(into hasher: inout Hasher) { hasher.combine(items) }
  }

  public var mark: Mark {
    switch self {
    case .scalar(let scalar): scalar.mark
    case .mapping(let mapping): mapping.mark
    case .sequence(let sequence): sequence.mark
    }
  }

  public var scalar: Scalar? { if case .scalar(let scalar) = self { scalar } else { nil } }
  public var mapping: Mapping? { if case .mapping(let mapping) = self { mapping } else { nil } }
  public var sequence: Sequence? { if case .sequence(let sequence) = self { sequence } else { nil } }
  /// The value of a mapping's key.
  public subscript(key: String) -> YAMLNode? { mapping?[key] }
  /// A scalar's text.
  public var string: String? { scalar?.string }
}

/// Why a text is not taken as YAML.
public struct YAMLError: Error, Hashable, CustomStringConvertible {
  /// libyaml's words, or ours.
  public var message: String
  /// Nil for bytes that are no text at all.
  public var mark: YAMLNode.Mark?

  public var description: String {
    mark.map { "line \($0.line), column \($0.column): \(message)" } ?? message
  }
}
