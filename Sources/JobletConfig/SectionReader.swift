import JobletModel
import YAML

/// What reading a file has found: its problems, and every key that was asked for.
final class ReadReport {
  var problems: [ConfigurationError.Problem] = []
  var warnings: [String] = []
  /// Every key there is, in the order of the schema.
  var keys: [String] = []

  func add(_ message: String, key: String, line: Int?) {
    problems.append(.init(line: line, key: key, message: message))
  }
}

/// Reads one section's keys into fields. A key is known because it is read, so that the schema is written once.
///
/// A field is left at its default when its key is absent, and when its value is refused: then the report has the problem.
struct SectionReader {
  let path: String
  let report: ReadReport
  private let mapping: YAMLNode.Mapping?
  private var known: [String] = []

  init(_ node: YAMLNode?, path: String, report: ReadReport) {
    self.path = path
    self.report = report
    switch node {
    case .none: mapping = nil
    case .mapping(let found): mapping = found
    case .some(let other) where other.isEmptyScalar: mapping = nil  // `section:` alone means its defaults
    case .some(let other):
      mapping = nil
      report.add("must be a section of keys, not \(other.kind)", key: path, line: other.mark.line)
    }
  }

  func fullKey(_ key: String) -> String { path.isEmpty ? key : "\(path).\(key)" }

  /// The line of a key that was given.
  func line(_ key: String) -> Int? { mapping?[key]?.mark.line }

  /// True when the file gives this key a value.
  func has(_ key: String) -> Bool { mapping?[key].map { !$0.isEmptyScalar } ?? false }

  func refuse(_ key: String, _ message: String) { report.add(message, key: fullKey(key), line: line(key)) }

  mutating func section(_ key: String, _ read: (inout SectionReader) -> Void) {
    known.append(key)
    var reader = SectionReader(mapping?[key], path: fullKey(key), report: report)
    read(&reader)
    reader.refuseUnknownKeys()
  }

  /// Knows a section without looking into it.
  mutating func skip(_ key: String) { known.append(key) }

  /// Takes the node of a key that has a value; an empty one means the default.
  private mutating func node(_ key: String) -> YAMLNode? {
    known.append(key)
    report.keys.append(fullKey(key))
    guard let node = mapping?[key], !node.isEmptyScalar else { return nil }
    return node
  }

  private mutating func scalar(_ key: String, _ allowed: String) -> String? {
    guard let node = node(key) else { return nil }
    guard case .scalar(let scalar) = node else {
      refuse(key, "is \(node.kind); allowed: \(allowed)")
      return nil
    }
    return scalar.string
  }

  mutating func string(
    _ key: String, into field: inout String, allowed: String = "text", _ test: (String) -> Bool = { _ in true }
  ) {
    guard let text = scalar(key, allowed) else { return }
    guard !text.utf8.contains(0), test(text) else {
      return refuse(key, "'\(text.shortened)' is not allowed; allowed: \(allowed)")
    }
    field = text
  }

  /// A path from the root, without `..`.
  mutating func absolutePath(_ key: String, into field: inout String) {
    string(key, into: &field, allowed: "an absolute path without '..'", isAbsolutePath)
  }

  /// A unix socket's path; unix(7) allows 107 bytes.
  mutating func socketPath(_ key: String, into field: inout String) {
    string(key, into: &field, allowed: "an absolute path of at most 107 bytes") {
      isAbsolutePath($0) && $0.utf8.count <= 107
    }
  }

  mutating func choice(_ key: String, into field: inout String, _ allowed: [String]) {
    string(
      key, into: &field, allowed: allowed.map { $0.isEmpty ? "\"\"" : $0 }.joined(separator: ", "), allowed.contains)
  }

  mutating func choice<T: RawRepresentable & CaseIterable>(_ key: String, into field: inout T)
  where T.RawValue == String {
    let allowed = T.allCases.map(\.rawValue).joined(separator: ", ")
    guard let text = scalar(key, allowed) else { return }
    guard let value = T(rawValue: text) else {
      return refuse(key, "'\(text.shortened)' is not allowed; allowed: \(allowed)")
    }
    field = value
  }

  mutating func bool(_ key: String, into field: inout Bool) {
    guard let text = scalar(key, "true, false") else { return }
    switch text {
    case "true", "True", "TRUE", "yes", "on": field = true
    case "false", "False", "FALSE", "no", "off": field = false
    default: refuse(key, "'\(text.shortened)' is not allowed; allowed: true, false")
    }
  }

  mutating func int(_ key: String, into field: inout Int, _ range: ClosedRange<Int>) {
    let allowed = "a whole number from \(range.lowerBound) to \(range.upperBound)"
    guard let text = scalar(key, allowed) else { return }
    guard let value = Int(text), range.contains(value) else {
      return refuse(key, "'\(text.shortened)' is not allowed; allowed: \(allowed)")
    }
    field = value
  }

  /// A size; at least `least` bytes, or 0 where that means "no bound".
  mutating func size(_ key: String, into field: inout Int64, atLeast least: Int64, zero: Bool = false) {
    let allowed = "\(ByteSizeText.allowed), at least \(least)\(zero ? ", or 0" : "")"
    guard let text = scalar(key, allowed) else { return }
    guard let value = ByteSizeText.parse(text), value >= least || (zero && value == 0) else {
      return refuse(key, "'\(text.shortened)' is not allowed; allowed: \(allowed)")
    }
    field = value
  }

  mutating func duration(_ key: String, into field: inout Duration, _ range: ClosedRange<Duration>, zero: Bool = false)
  {
    let bounds =
      "\(DurationText.print(range.lowerBound)) to \(DurationText.print(range.upperBound))\(zero ? ", or 0" : "")"
    let allowed = "\(DurationText.allowed); from \(bounds)"
    guard let text = scalar(key, allowed) else { return }
    guard let value = DurationText.parse(text), range.contains(value) || (zero && value == .zero) else {
      return refuse(key, "'\(text.shortened)' is not allowed; allowed: \(allowed)")
    }
    field = value
  }

  mutating func list(_ key: String, into field: inout [String], allowed: String, _ test: (String) -> Bool) {
    guard let node = node(key) else { return }
    guard case .sequence(let sequence) = node else {
      return refuse(key, "is \(node.kind); allowed: a list of \(allowed)")
    }
    var values: [String] = []
    for item in sequence {
      guard case .scalar(let scalar) = item, test(scalar.string), !values.contains(scalar.string) else {
        let shown = item.scalar?.string.shortened ?? item.kind
        report.add(
          "'\(shown)' is not allowed or given twice; allowed: a list of \(allowed)", key: fullKey(key),
          line: item.mark.line)
        return
      }
      values.append(scalar.string)
    }
    field = values
  }

  mutating func dictionary(_ key: String, into field: inout [String: String]) {
    guard let node = node(key) else { return }
    guard case .mapping(let mapping) = node else {
      return refuse(key, "is \(node.kind); allowed: names with text values")
    }
    var values: [String: String] = [:]
    for (name, value) in mapping {
      guard let name = name.string, let text = value.string else {
        report.add("allowed: names with text values", key: fullKey(key), line: value.mark.line)
        return
      }
      values[name] = text
    }
    field = values
  }

  /// A misspelt key must not be a setting ignored.
  func refuseUnknownKeys() {
    for key in mapping?.keys ?? [] {
      let name = key.scalar?.string ?? key.kind
      guard key.scalar == nil || !known.contains(name) else { continue }
      let nearest = nearestNames(to: name, in: known)
      let hint =
        nearest.isEmpty
        ? "known here: \(known.joined(separator: ", "))" : "did you mean \(nearest.joined(separator: " or "))?"
      report.add("unknown key; \(hint)", key: fullKey(name.shortened), line: key.mark.line)
    }
  }
}

func isAbsolutePath(_ text: String) -> Bool {
  text.hasPrefix("/") && text.utf8.count < 4096 && !text.utf8.contains(0)
    && !text.split(separator: "/").contains { $0 == ".." || $0 == "." }
}

extension YAMLNode {
  /// `key:` with nothing after it, `~` and `null`.
  fileprivate var isEmptyScalar: Bool {
    guard case .scalar(let scalar) = self, scalar.isPlain else { return false }
    return scalar.string.isEmpty || scalar.string == "~" || scalar.string == "null"
  }

  fileprivate var kind: String {
    switch self {
    case .scalar: "a single value"
    case .mapping: "a section of keys"
    case .sequence: "a list"
    }
  }
}

extension String {
  /// Enough of a value to recognise it in a message.
  fileprivate var shortened: String {
    let line = prefix(60).map { $0.isNewline ? " " : $0 }
    return String(line) + (utf8.count > 240 || count > 60 ? "…" : "")
  }
}
