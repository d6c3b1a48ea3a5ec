import JobletModel

/// `/v1/problems`: what the `type` of an error can be, for whoever writes a client.
struct ProblemRoutes: Sendable {
  private struct List: Encodable {
    struct Item: Encodable {
      var type: String
      var title: String
      var status: Int
    }

    var problems: [Item]
  }

  func list(_ context: RequestContext) throws -> Reply {
    _ = try QueryReader(context.target, known: [])
    let kinds = Problem.Kind.allCases.map { List.Item(type: $0.type, title: $0.title, status: $0.status) }
    return .json(.ok, JSONText.encode(List(problems: kinds)))
  }
}
