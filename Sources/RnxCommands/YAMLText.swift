import CLibYAML

/// A YAML document as a tree, by libyaml. Tags and anchors are not known here: what they stand for would not be what is read.
indirect enum YAMLText: Hashable, Sendable {
  case scalar(String)
  case sequence([YAMLText])
  /// In the file's order, no key twice.
  case mapping([Entry])

  struct Entry: Hashable, Sendable {
    var key: String
    var value: YAMLText
  }

  /// What makes a text no document, with its line.
  struct Invalid: Error, Hashable, CustomStringConvertible {
    var line: Int
    var why: String
    var description: String { "line \(line): \(why)" }
  }

  /// Levels of lists and mappings in one another.
  static let deepest = 16

  var text: String? {
    if case .scalar(let text) = self { text } else { nil }
  }

  subscript(key: String) -> YAMLText? {
    guard case .mapping(let entries) = self else { return nil }
    return entries.first { $0.key == key }?.value
  }

  /// Reads a text's only document; nil if it holds none.
  static func parse(_ text: String) throws(Invalid) -> YAMLText? {
    var reader = try YAMLReader()
    defer { reader.end() }
    var bytes = Array(text.utf8)
    // libyaml keeps a pointer to its input until the parser is deleted.
    let result = bytes.withUnsafeMutableBufferPointer { buffer -> Result<YAMLText?, Invalid> in
      reader.setInput(buffer)
      return Result { () throws(Invalid) in try reader.document() }
    }
    return try result.get()
  }
}

/// libyaml's event parser (yaml.h), read by recursive descent. Its events are bounded by the text: each is made of at least a
/// character of it.
private struct YAMLReader {
  private typealias Invalid = YAMLText.Invalid

  private struct Event {
    var type: yaml_event_type_t
    var line: Int
    var value = ""
  }

  private let parser: UnsafeMutablePointer<yaml_parser_t>

  init() throws(YAMLText.Invalid) {
    parser = .allocate(capacity: 1)
    guard yaml_parser_initialize(parser) == 1 else {
      parser.deallocate()
      throw Invalid(line: 1, why: "there is no memory to read it")
    }
  }

  func end() {
    yaml_parser_delete(parser)
    parser.deallocate()
  }

  func setInput(_ buffer: UnsafeMutableBufferPointer<UInt8>) {
    yaml_parser_set_input_string(parser, buffer.baseAddress, buffer.count)
  }

  mutating func document() throws(YAMLText.Invalid) -> YAMLText? {
    _ = try next()  // the stream's start
    guard try next().type == YAML_DOCUMENT_START_EVENT else { return nil }
    let root = try node(try next(), depth: 0)
    _ = try next()  // the document's end
    let last = try next()
    guard last.type == YAML_STREAM_END_EVENT else { throw Invalid(line: last.line, why: "a second document begins") }
    return root
  }

  private mutating func node(_ event: Event, depth: Int) throws(YAMLText.Invalid) -> YAMLText {
    guard depth <= YAMLText.deepest else {
      throw Invalid(line: event.line, why: "more than \(YAMLText.deepest) levels in one another")
    }
    switch event.type {
    case YAML_SCALAR_EVENT: return .scalar(event.value)
    case YAML_SEQUENCE_START_EVENT:
      var items: [YAMLText] = []
      while true {
        let event = try next()
        if event.type == YAML_SEQUENCE_END_EVENT { return .sequence(items) }
        items.append(try node(event, depth: depth + 1))
      }
    case YAML_MAPPING_START_EVENT: return .mapping(try entries(depth: depth + 1))
    default: throw Invalid(line: event.line, why: "an alias (*name), which is not known here")
    }
  }

  private mutating func entries(depth: Int) throws(YAMLText.Invalid) -> [YAMLText.Entry] {
    var entries: [YAMLText.Entry] = []
    var keys: Set<String> = []
    while true {
      let event = try next()
      if event.type == YAML_MAPPING_END_EVENT { return entries }
      guard event.type == YAML_SCALAR_EVENT else {
        throw Invalid(line: event.line, why: "a key that is no plain text")
      }
      guard keys.insert(event.value).inserted else {
        throw Invalid(line: event.line, why: "the key '\(event.value.prefix(100))' stands there twice")
      }
      entries.append(YAMLText.Entry(key: event.value, value: try node(try next(), depth: depth)))
    }
  }

  private mutating func next() throws(YAMLText.Invalid) -> Event {
    var event = yaml_event_t()
    guard yaml_parser_parse(parser, &event) == 1 else {
      let problem = parser.pointee.problem.map { String(cString: $0) } ?? "it can't be read"
      throw Invalid(line: Int(parser.pointee.problem_mark.line) + 1, why: problem)
    }
    defer { yaml_event_delete(&event) }
    var copy = Event(type: event.type, line: Int(event.start_mark.line) + 1)
    if event.type == YAML_SCALAR_EVENT {
      let scalar = event.data.scalar
      copy.value = String(
        decoding: UnsafeBufferPointer(start: scalar.value, count: scalar.length), as: UTF8.self)
    }
    return copy
  }
}
