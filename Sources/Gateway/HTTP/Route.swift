import HTTPTypes
import JobletModel

/// One line of the table of routes: what may be called, how it is named in metrics, who may call it, and who answers.
public struct Route: Sendable {
  public var method: String
  /// `/v1/jobs/{id}`: a segment in braces matches any one.
  public var pattern: String
  /// What the caller's role must allow; nil on the health listener, which knows no callers.
  public var operation: Operation?
  /// Media types on offer, the default first; none where a success has no body.
  public var produces: [String]
  /// True if the route reads a JSON body.
  public var takesBody = false
  let handler: @Sendable (RequestContext) async throws -> Reply

  init(
    _ method: HTTPRequest.Method, _ pattern: String, _ operation: Operation?, produces: [String] = ["application/json"],
    takesBody: Bool = false, _ handler: @escaping @Sendable (RequestContext) async throws -> Reply
  ) {
    self.method = method.rawValue
    self.pattern = pattern
    self.operation = operation
    self.produces = produces
    self.takesBody = takesBody
    self.handler = handler
  }

  /// True if the route changes something: every such call leaves an audit line.
  var isMutating: Bool { method != "GET" }
}

/// Finds the route of a request. The table is short, so it is walked.
struct Router: Sendable {
  let routes: [Route]
  private let patterns: [[Substring]]

  init(_ routes: [Route]) {
    self.routes = routes
    patterns = routes.map { $0.pattern.dropFirst().split(separator: "/", omittingEmptySubsequences: false) }
  }

  /// Every method that some path has.
  var methods: [String] { Set(routes.map(\.method) + ["HEAD", "OPTIONS"]).sorted() }

  /// Where somebody who asked for a path that does not exist may look.
  var overview: String {
    routes.contains { $0.pattern == "/openapi.yaml" }
      ? "see /openapi.yaml" : "there are: \(routes.map(\.pattern).joined(separator: ", "))"
  }

  enum Match {
    case found(Route, parameter: String?)
    /// The path exists; these are its methods.
    case otherMethods([String])
    case none
  }

  func match(_ method: HTTPRequest.Method, _ segments: [String]) -> Match {
    var methods: [String] = []
    for (route, pattern) in zip(routes, patterns) {
      guard let parameter = Router.parameter(of: segments, in: pattern) else { continue }
      // HEAD is GET without a body (RFC 9110, section 9.3.2).
      if route.method == method.rawValue || route.method == "GET" && method == .head {
        return .found(route, parameter: parameter.isEmpty ? nil : parameter)
      }
      methods.append(route.method)
      if route.method == "GET" { methods.append("HEAD") }
    }
    return methods.isEmpty ? .none : .otherMethods(methods + ["OPTIONS"])
  }

  /// The text at the pattern's braces, empty where it has none; nil if the path is another.
  private static func parameter(of segments: [String], in pattern: [Substring]) -> String? {
    guard segments.count == pattern.count else { return nil }
    var parameter = ""
    for (segment, expected) in zip(segments, pattern) {
      if expected.first == "{" {
        guard !segment.isEmpty else { return nil }
        parameter = segment
      } else if segment != expected {
        return nil
      }
    }
    return parameter
  }
}
