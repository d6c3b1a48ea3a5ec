import FoundationEssentials
import Gateway
import JobletModel
import Testing
import YAML

typealias Node = YAMLNode

@Suite struct DocumentTests {
  static func loaded() throws -> Node {
    try #require(try YAMLNode.parse(openAPIDocument))
  }

  /// A key of the document as text: `"200"` in quotes is no number.
  static func child(_ node: Node?, _ key: String) -> Node? {
    node?.mapping?.first { $0.key.string == key }?.value
  }

  @Test func theGatewayServesTheContractItself() throws {
    let path = #filePath.replacing("Tests/GatewayTests/DocumentTests.swift", with: "openapi/joblet.yaml")
    let text = try String(contentsOfFile: path, encoding: .utf8)
    #expect(text == openAPIDocument, "run openapi/embed")
  }

  @Test func everyRouteIsInTheDocumentAndTheOtherWayRound() throws {
    let paths = try #require(try Self.loaded()["paths"]?.mapping)
    var documented: Set<String> = []
    for (path, item) in paths {
      for (method, operation) in try #require(item.mapping) where method.string != "parameters" {
        let name = operation["x-joblet-operation"]?.string ?? "none"
        documented.insert("\(method.string?.uppercased() ?? "") \(path.string ?? "") \(name)")
      }
    }
    #expect(documented == Set(Gateway.routes.map { "\($0.method) \($0.pattern) \($0.operation?.rawValue ?? "none")" }))
  }

  @Test func everyRoutesMediaTypesAreInTheDocument() throws {
    let paths = try #require(try Self.loaded()["paths"])
    for route in Gateway.routes where route.method == "GET" {
      let content = Self.child(paths[route.pattern]?["get"]?["responses"], "200")?["content"]?.mapping
      #expect(Set(content?.keys.compactMap(\.string) ?? []) == Set(route.produces), "\(route.pattern)")
    }
  }

  @Test func theModelsNamesAreTheDocuments() throws {
    let schemas = try #require(try Self.loaded()["components"]?["schemas"])
    func properties(_ name: String) -> Set<String> {
      Set(schemas[name]?["properties"]?.mapping?.keys.compactMap(\.string) ?? [])
    }
    func values(_ name: String) -> Set<String> { Set(schemas[name]?["enum"]?.sequence?.compactMap(\.string) ?? []) }
    #expect(properties("JobRequest") == Set(JobRequest.CodingKeys.allCases.map(\.stringValue)))
    #expect(properties("JobRecord") == Set(JobRecord.CodingKeys.allCases.map(\.stringValue)))
    #expect(properties("MetricSample") == Set(MetricSample.CodingKeys.allCases.map(\.stringValue)))
    let own = ["seq", "ts"]
    #expect(
      properties("MetricsOverTime")
        == Set(MetricSample.CodingKeys.allCases.map(\.stringValue)).subtracting(own).union([
          "ts", "aggregate", "samples",
        ]))
    #expect(properties("Limits") == Set(Limits.CodingKeys.allCases.map(\.stringValue)))
    #expect(properties("JobsDeleted") == Set(JobsDeleted.CodingKeys.allCases.map(\.stringValue)))
    for (name, keys) in [
      ("NodeStatus", NodeStatus.CodingKeys.allCases.map(\.stringValue)),
      ("NodeVersions", NodeStatus.Versions.CodingKeys.allCases.map(\.stringValue)),
      ("NodeJobs", NodeStatus.JobsFigures.CodingKeys.allCases.map(\.stringValue)),
      ("NodeServices", NodeStatus.Services.CodingKeys.allCases.map(\.stringValue)),
      ("ExecState", NodeStatus.Services.Exec.CodingKeys.allCases.map(\.stringValue)),
      ("PersistState", NodeStatus.Services.Persist.CodingKeys.allCases.map(\.stringValue)),
      ("GatewayFigures", NodeStatus.GatewayFigures.CodingKeys.allCases.map(\.stringValue)),
      ("CertificateStatus", CertificateStatus.CodingKeys.allCases.map(\.stringValue)),
      ("NodeSummary", NodeSummary.CodingKeys.allCases.map(\.stringValue)),
      ("HostDescription", HostDescription.CodingKeys.allCases.map(\.stringValue)),
      ("ProcessorFigures", ProcessorFigures.CodingKeys.allCases.map(\.stringValue)),
      ("MemoryFigures", MemoryFigures.CodingKeys.allCases.map(\.stringValue)),
      ("LoadFigures", LoadFigures.CodingKeys.allCases.map(\.stringValue)),
      ("PressureReport", PressureReport.CodingKeys.allCases.map(\.stringValue)),
      ("PressureFigures", PressureFigures.CodingKeys.allCases.map(\.stringValue)),
      ("DiskFigures", DiskFigures.CodingKeys.allCases.map(\.stringValue)),
      ("InterfaceFigures", InterfaceFigures.CodingKeys.allCases.map(\.stringValue)),
    ] { #expect(properties(name) == Set(keys), "\(name)") }
    #expect(values("JobStatus") == Set(JobStatus.allCases.map(\.rawValue)))
    #expect(values("JobReason") == Set(JobReason.allCases.map(\.rawValue)))
    let kinds = schemas["Problem"]?["properties"]?["type"]?["enum"]?.sequence?.compactMap(\.string) ?? []
    #expect(Set(kinds) == Set(Problem.Kind.allCases.map { "urn:joblet:problem:\($0.rawValue)" }))
  }

  /// A route's query parameters, those behind a `$ref` too.
  static func queryParameters(_ path: String) throws -> [Node] {
    let document = try loaded()
    let list = try #require(document["paths"]?[path]?["get"]?["parameters"]?.sequence)
    return try list.map { node in
      guard let name = node["$ref"]?.string?.split(separator: "/").last else { return node }
      return try #require(document["components"]?["parameters"]?[String(name)])
    }.filter { $0["in"]?.string == "query" }
  }

  @Test func theStreamsParametersAreTheDocuments() throws {
    let logs = try Self.queryParameters("/v1/jobs/{id}/logs")
    #expect(logs.compactMap { $0["name"]?.string } == LogParameters.names)
    let metrics = try Self.queryParameters("/v1/jobs/{id}/metrics")
    #expect(metrics.compactMap { $0["name"]?.string } == MetricParameters.names)
    let aggregates = metrics.first { $0["name"]?.string == "aggregate" }?["schema"]?["enum"]?.sequence
    #expect(aggregates?.compactMap(\.string) == MetricAggregate.allCases.map(\.rawValue))
  }

  @Test func theEventsAndTheNodesAre() throws {
    #expect(try Self.queryParameters("/v1/events").compactMap { $0["name"]?.string } == EventParameters.names)
    for path in ["/v1/events", "/v1/node"] {
      let content = Self.child(try Self.loaded()["paths"]?[path]?["get"]?["responses"], "200")?["content"]
      for text in try #require(content?["text/event-stream"]?["examples"]?.mapping).map({ $0.value["value"]?.string }) {
        var parser = EventParser()
        let events = parser.feed(Array(try #require(text).utf8))
        #expect(!events.isEmpty && parser.retry == "2000")
        for event in events {
          let data = Data(event.data.utf8)
          if let id = event.id { #expect(EventCursor(id) != nil) }
          switch event.name {
          case "job": _ = try JSONDecoder().decode(JobRecord.self, from: data)
          case "node": _ = try JSONDecoder().decode(NodeStatus.self, from: data)
          case "synced": _ = try JSONDecoder().decode([String: Int].self, from: data)
          default: _ = try JSONDecoder().decode([String: String].self, from: data)
          }
        }
      }
    }
  }

  @Test(arguments: ["logs", "metrics"])
  func exampleStreamsAreWhatTheCodeReads(_ name: String) throws {
    let responses = try Self.loaded()["paths"]?["/v1/jobs/{id}/\(name)"]?["get"]?["responses"]
    let content = try #require(Self.child(responses, "200")?["content"])
    func texts(_ type: String) throws -> [String] {
      try #require(content[type]?["examples"]?.mapping).values.map { try #require($0["value"]?.string) }
    }
    func expectRecord(_ text: some StringProtocol) throws {
      if name == "logs" {
        #expect(LogLine(json: Array(text.utf8)) != nil, "\(text)")
      } else {
        let point = try JSONDecoder().decode(MetricPoint.self, from: Data(text.utf8))
        if point.aggregate == nil { _ = try JSONDecoder().decode(MetricSample.self, from: Data(text.utf8)) }
        #expect(!point.values.isEmpty && (point.seq == nil) == (point.samples != nil))
      }
    }
    for text in try texts("application/x-ndjson") {
      for line in text.split(separator: "\n") { try expectRecord(line) }
    }
    for text in try texts("text/event-stream") {
      var parser = EventParser()
      let events = parser.feed(Array(text.utf8))
      #expect(events.count >= 2 && events.last?.name == "end" && parser.retry == "2000")
      for event in events {
        switch event.name {
        case "end": _ = try JSONDecoder().decode(JobEnd.self, from: Data(event.data.utf8))
        case "gap": _ = try JSONDecoder().decode([String: UInt64].self, from: Data(event.data.utf8))
        default:
          #expect(event.name == (name == "logs" ? "log" : "metrics"))
          try expectRecord(event.data)
        }
      }
    }
  }

  /// A node that tells everything.
  static func nodeExamples() throws -> [NodeStatus] {
    let content = child(try loaded()["paths"]?["/v1/node"]?["get"]?["responses"], "200")?["content"]
    return try #require(content?["application/json"]?["examples"]?.mapping).map {
      try JSONDecoder().decode(NodeStatus.self, from: Data(try json(try #require($0.value["value"])).utf8))
    }
  }

  @Test func examplesAreWhatTheCodeReads() throws {
    let paths = try #require(try Self.loaded()["paths"])
    func examples(_ node: Node?) throws -> [Data] {
      let all = try #require(node?["application/json"]?["examples"]?.mapping)
      return try all.values.map { Data(try Self.json(try #require($0["value"])).utf8) }
    }
    for data in try examples(paths["/v1/jobs"]?["post"]?["requestBody"]?["content"]) {
      try JSONDecoder().decode(JobRequest.self, from: data).validate()
    }
    for data in try examples(paths["/v1/jobs/{id}/stop"]?["post"]?["requestBody"]?["content"]) {
      _ = try JSONDecoder().decode(StopOptions.self, from: data)
    }
    for node in try Self.nodeExamples() {
      #expect(node.cpu != nil && node.disks?.isEmpty == false && node.certificates?.isEmpty == false)
    }
    struct Nodes: Decodable { var nodes: [NodeSummary] }
    for data in try examples(Self.child(paths["/v1/nodes"]?["get"]?["responses"], "200")?["content"]) {
      #expect(try JSONDecoder().decode(Nodes.self, from: data).nodes.count == 1)
    }
    let records =
      try examples(Self.child(paths["/v1/jobs"]?["post"]?["responses"], "201")?["content"])
      + examples(Self.child(paths["/v1/jobs/{id}"]?["get"]?["responses"], "200")?["content"])
    for data in records { _ = try JSONDecoder().decode(JobRecord.self, from: data) }
    for data in try examples(Self.child(paths["/v1/jobs"]?["get"]?["responses"], "200")?["content"]) {
      #expect(try JSONDecoder().decode(RouteTests.List.self, from: data).jobs.count == 1)
    }
  }

  /// YAML's flow style of the examples as JSON.
  static func json(_ node: Node) throws -> String {
    switch node {
    case .mapping(let mapping):
      let pairs = try mapping.map { try "\(quoted($0.key.string ?? "")):\(json($0.value))" }
      return "{\(pairs.joined(separator: ","))}"
    case .sequence(let sequence): return try "[\(sequence.map { try json($0) }.joined(separator: ","))]"
    case .scalar(let scalar):
      let isNumber = scalar.isPlain && (Double(scalar.string) != nil || ["true", "false"].contains(scalar.string))
      return isNumber ? scalar.string : try quoted(scalar.string)
    }
  }

  static func quoted(_ text: String) throws -> String {
    String(decoding: try JSONEncoder().encode([text]).dropFirst().dropLast(), as: UTF8.self)
  }
}
