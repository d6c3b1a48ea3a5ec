import CLibYAML

extension YAMLNode {
  /// How deep a document may be nested.
  public static let maxDepth = 64
  /// How many nodes it may have, those an alias repeats counted again: a kilobyte of aliases can stand for a billion.
  public static let maxNodes = 100_000

  /// Reads a text that is one document (YAML 1.1, as libyaml understands it).
  /// - Returns: nil for a text with nothing but comments.
  /// - Throws: ``YAMLError``, also for a key given twice, an alias of nothing, and what is beyond the bounds.
  public static func parse(_ text: String) throws(YAMLError) -> YAMLNode? {
    // In memory of its own, for it points at itself: yaml_parser_set_input_string() stores its address.
    let parser = UnsafeMutablePointer<yaml_parser_t>.allocate(capacity: 1)
    defer { parser.deallocate() }
    parser.initialize(to: yaml_parser_t())
    guard yaml_parser_initialize(parser) == 1 else { throw YAMLError(message: "out of memory") }
    defer { yaml_parser_delete(parser) }
    yaml_parser_set_encoding(parser, YAML_UTF8_ENCODING)
    let bytes = ContiguousArray(text.utf8)
    let result = bytes.withUnsafeBufferPointer { buffer -> Result<YAMLNode?, YAMLError> in
      yaml_parser_set_input_string(parser, buffer.baseAddress, buffer.count)
      var composer = Composer(parser: parser)
      do throws(YAMLError) {
        return .success(try composer.document())
      } catch {
        return .failure(error)
      }
    }
    return try result.get()
  }
}

/// Makes nodes of libyaml's events. Lives no longer than the parser it points at.
private struct Composer {
  let parser: UnsafeMutablePointer<yaml_parser_t>
  /// Nodes that have a name, with how many they are and how many levels lie below.
  private var anchors: [String: (node: YAMLNode, count: Int, height: Int)] = [:]
  private var count = 0
  /// The deepest level within the node that is being read.
  private var deepest = 0

  init(parser: UnsafeMutablePointer<yaml_parser_t>) { self.parser = parser }

  mutating func document() throws(YAMLError) -> YAMLNode? {
    _ = try next()  // the stream's start
    guard try next().type == YAML_DOCUMENT_START_EVENT else { return nil }
    let root = try node(try next(), depth: 0)
    _ = try next()  // the document's end
    let after = try next()
    guard after.type == YAML_STREAM_END_EVENT else {
      throw YAMLError(message: "a second document begins here; one is allowed", mark: after.mark)
    }
    return root
  }

  /// What the parser says next, copied out of its memory.
  private struct Event {
    var type: yaml_event_type_t
    var mark: YAMLNode.Mark
    /// A scalar's.
    var text = ""
    var isPlain = false
    /// The node's own name, or the one an alias refers to.
    var anchor: String?
  }

  private func next() throws(YAMLError) -> Event {
    var event = yaml_event_t()
    guard yaml_parser_parse(parser, &event) == 1 else { throw failure() }
    defer { yaml_event_delete(&event) }
    var copy = Event(type: event.type, mark: YAMLNode.Mark(event.start_mark))
    switch event.type {
    case YAML_SCALAR_EVENT:
      let scalar = event.data.scalar
      copy.text = String(decoding: UnsafeBufferPointer(start: scalar.value, count: scalar.length), as: UTF8.self)
      copy.isPlain = scalar.style == YAML_PLAIN_SCALAR_STYLE || scalar.style == YAML_ANY_SCALAR_STYLE
      copy.anchor = Composer.name(scalar.anchor)
    case YAML_ALIAS_EVENT: copy.anchor = Composer.name(event.data.alias.anchor)
    case YAML_MAPPING_START_EVENT: copy.anchor = Composer.name(event.data.mapping_start.anchor)
    case YAML_SEQUENCE_START_EVENT: copy.anchor = Composer.name(event.data.sequence_start.anchor)
    default: break
    }
    return copy
  }

  private static func name(_ bytes: UnsafeMutablePointer<yaml_char_t>?) -> String? {
    bytes.map { String(cString: $0) }
  }

  private func failure() -> YAMLError {
    let parser = parser.pointee
    let message = parser.problem.map { String(cString: $0) } ?? "out of memory"
    // The reader stops before anything has a line: bytes that are no text.
    let hasMark = parser.error == YAML_SCANNER_ERROR || parser.error == YAML_PARSER_ERROR
    return YAMLError(message: message, mark: hasMark ? YAMLNode.Mark(parser.problem_mark) : nil)
  }

  private mutating func node(_ event: Event, depth: Int) throws(YAMLError) -> YAMLNode {
    let outside = deepest
    let before = count
    try reach(depth, event.mark)
    try add(1, event.mark)
    let node: YAMLNode
    switch event.type {
    case YAML_SCALAR_EVENT:
      node = .scalar(YAMLNode.Scalar(string: event.text, isPlain: event.isPlain, mark: event.mark))
    case YAML_MAPPING_START_EVENT: node = .mapping(try mapping(event, depth))
    case YAML_SEQUENCE_START_EVENT: node = .sequence(try sequence(event, depth))
    default:
      guard let known = event.anchor.flatMap({ anchors[$0] }) else {
        throw YAMLError(message: "found undefined alias", mark: event.mark)
      }
      try add(known.count, event.mark)
      try reach(depth + known.height, event.mark)
      deepest = max(outside, deepest)
      return known.node
    }
    if let name = event.anchor { anchors[name] = (node, count - before, deepest - depth) }
    deepest = max(outside, deepest)
    return node
  }

  private mutating func mapping(_ start: Event, _ depth: Int) throws(YAMLError) -> YAMLNode.Mapping {
    var mapping = YAMLNode.Mapping(mark: start.mark)
    // A key is looked up by its text, however it is written: `a` and `"a"` are one.
    var names: Set<String> = []
    var others: Set<YAMLNode> = []
    while true {
      let event = try next()
      if event.type == YAML_MAPPING_END_EVENT { return mapping }
      let key = try node(event, depth: depth + 1)
      let isNew = key.string.map { names.insert($0).inserted } ?? others.insert(key).inserted
      guard isNew else {
        let name = key.string.map { "'\($0.prefix(60))'" } ?? "this key"
        throw YAMLError(message: "\(name) is given twice", mark: event.mark)
      }
      mapping.append(key, try node(try next(), depth: depth + 1))
    }
  }

  private mutating func sequence(_ start: Event, _ depth: Int) throws(YAMLError) -> YAMLNode.Sequence {
    var sequence = YAMLNode.Sequence(items: [], mark: start.mark)
    while true {
      let event = try next()
      if event.type == YAML_SEQUENCE_END_EVENT { return sequence }
      sequence.items.append(try node(event, depth: depth + 1))
    }
  }

  private mutating func reach(_ depth: Int, _ mark: YAMLNode.Mark) throws(YAMLError) {
    guard depth < YAMLNode.maxDepth else {
      throw YAMLError(message: "nested deeper than \(YAMLNode.maxDepth) levels", mark: mark)
    }
    deepest = depth
  }

  private mutating func add(_ more: Int, _ mark: YAMLNode.Mark) throws(YAMLError) {
    count += more
    guard count <= YAMLNode.maxNodes else {
      throw YAMLError(message: "more than \(YAMLNode.maxNodes) values, those aliases repeat included", mark: mark)
    }
  }
}

extension YAMLNode.Mark {
  fileprivate init(_ mark: yaml_mark_t) { self.init(line: Int(mark.line) + 1, column: Int(mark.column) + 1) }
}
