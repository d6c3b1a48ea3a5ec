import Foundation
import Testing

extension SystemTests {
  /// `/v1/node` and `/metrics` held against what the host itself says.
  @Suite struct Node {
    private func node(_ data: Data) throws -> [String: Any] {
      try #require(try JSONSerialization.jsonObject(with: data) as? [String: Any])
    }

    private func node(_ api: API) async throws -> [String: Any] {
      let reply = try await api.get("/v1/node")
      #expect(reply.status == 200 && reply.headers["content-type"] == "application/json", "\(reply)")
      return try node(reply.body)
    }

    private func part(_ node: [String: Any], _ name: String) throws -> [String: Any] {
      try #require(node[name] as? [String: Any], "\(name) is not in \(node)")
    }

    /// How many jobs the API lists, over all pages.
    private func listed(_ api: API, _ statuses: String) async throws -> Int {
      var (count, cursor) = (0, "")
      repeat {
        let page = try node(try await api.get("/v1/jobs?status=\(statuses)&limit=1000\(cursor)").body)
        count += try #require(page["jobs"] as? [Any]).count
        cursor = (page["next_cursor"] as? String).map { "&cursor=\($0)" } ?? ""
      } while !cursor.isEmpty
      return count
    }

    private func number(_ script: String) async throws -> Int {
      let text = try await Shell.must(script)
      return try #require(Int(text.trimmingCharacters(in: .whitespaces)), "\(script): \(text)")
    }

    private func onlineCPUs() async throws -> Int { try await number("grep -c '^cpu[0-9]' /proc/stat") }

    private func totalMemory() async throws -> Int {
      try await number("awk '/^MemTotal:/ {print $2}' /proc/meminfo") * 1024
    }

    /// When the server's certificate ends, in Unix time, as the one says who connects.
    private func serverEnds() async throws -> Int {
      try await number(
        """
        date +%s -d "$(openssl s_client -connect localhost:50051 </dev/null 2>/dev/null | openssl x509 -noout -enddate |
          cut -d= -f2)"
        """)
    }

    @Test(.timeLimit(.minutes(10)))
    func `the node's figures are the host's own`() async throws {
      try await Systemd.waitUntilReady()
      let api = try API(role: "reader")
      let node = try await node(api)
      #expect(node["ready"] as? Bool == true && node["reasons"] == nil, "\(node)")

      let host = try part(node, "host")
      for (name, command) in [("kernel", "uname -r"), ("architecture", "uname -m"), ("hostname", "uname -n")] {
        #expect(host[name] as? String == (try await Shell.must(command)), "\(name)")
      }
      let booted = try await number("date +%s -d '\(host["booted_at"] ?? "")'")
      // The kernel works it out anew from the clock, which may have been set a little.
      #expect(abs(try await number("awk '/^btime/ {print $2}' /proc/stat") - booted) <= 5)
      #expect(try part(node, "cpu")["count"] as? Int == (try await onlineCPUs()))
      let memory = try part(node, "memory")
      let total = try await totalMemory()
      #expect(memory["total_bytes"] as? Int == total)
      #expect((1...total).contains(try #require(memory["available_bytes"] as? Int)))
      let interfaces = try #require(node["network"] as? [[String: Any]]).compactMap { $0["name"] as? String }
      let links = try await Shell.must("cd /sys/class/net && for link in */; do echo ${link%/}; done")
      #expect(Set(interfaces) == Set(links.split(separator: "\n").map(String.init)).subtracting(["lo"]))

      let disks = try #require(node["disks"] as? [[String: Any]])
      let workspaces = try #require(disks.first { ($0["holds"] as? [String])?.contains("workspaces") == true })
      #expect(
        workspaces["total_bytes"] as? Int == (try await number("df -B1 --output=size \(Installed.jobs) | tail -n 1")))
      let versions = try part(node, "versions")
      let version = try #require(versions["api"] as? String)
      #expect(versions["exec"] as? String == version && versions["persist"] as? String == version, "\(versions)")

      let certificates = try #require(node["certificates"] as? [[String: Any]])
      let server = try #require(certificates.first { $0["name"] as? String == "server" })
      let ends = try await number("date +%s -d '\(server["not_after"] ?? "")'")
      #expect(ends == (try await serverEnds()) && server["state"] as? String == "valid", "\(server)")
      let days = try #require(server["days_left"] as? Int)
      #expect(abs((ends - Int(Date().timeIntervalSince1970)) / 86_400 - days) <= 1)
      #expect(certificates.contains { $0["name"] as? String == "authority" })
    }

    @Test(.timeLimit(.minutes(10)))
    func `a stream of the node goes on, and shows a job that starts and ends`() async throws {
      try await Systemd.waitUntilReady()
      let api = try API()
      let follower = try api.stream("/v1/node?stream&interval=1s")
      func figures() throws -> [[String: Any]] {
        try follower.events().filter { $0.name == "node" }.map { try node(Data($0.data.utf8)) }
      }
      /// The last event's number of running jobs, once it is the API's: jobs of tests before may be on their way out.
      func running() async throws -> Int {
        try await eventually("the stream tells what runs", pause: .milliseconds(500)) {
          let told = try (figures().last?["jobs"] as? [String: Any])?["running"] as? Int
          return try await listed(api, "RUNNING,PAUSED,INITIALIZING") == told ? told : nil
        }
      }
      _ = try await running()
      let job = try await api.run("sleep", ["600"]).id
      try await api.running(job)
      #expect(try await running() > 0)
      #expect(try await api.call("POST", "/v1/jobs/\(job)/stop", body: #"{"grace":"0s"}"#).status == 202)
      _ = try await api.ended(job)
      _ = try await running()
      try await eventually("it goes on") { Set(try figures().compactMap { $0["time"] as? String }).count >= 3 }
      let times = try figures().compactMap { $0["time"] as? String }
      #expect(!times.isEmpty && times == times.sorted(), "\(times)")
      let used = try figures().compactMap { ($0["cpu"] as? [String: Any])?["used_percent"] as? Double }
      #expect(!used.isEmpty && used.allSatisfy { $0 >= 0 }, "\(used)")
      #expect(try follower.events().allSatisfy { $0.name == "node" })
      follower.program.terminate()
    }

    // MARK: /metrics

    private struct Sample: Hashable {
      var name: String
      var labels: [String: String]
    }

    /// Reads the text exposition format 0.0.4, strictly: a `# HELP` and a `# TYPE` before a metric's samples, each metric once.
    private func scrape() async throws -> [Sample: Double] {
      let text = try await Shell.must("curl -sS --fail \(Installed.health)/metrics")
      let sample = /^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)$/
      let label = /([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\["\\n])*)"(,|$)/
      var (samples, seen, helped) = ([Sample: Double](), Set<String>(), "")
      var (family, kind) = ("", "")
      for line in text.split(separator: "\n", omittingEmptySubsequences: false) {
        let words = line.split(separator: " ", maxSplits: 3).map(String.init)
        if line.hasPrefix("# HELP ") {
          helped = try #require(words.count == 4 ? words[2] : nil, "\(line)")
        } else if line.hasPrefix("# TYPE ") {
          try #require(words.count == 4 && words[2] == helped, "\(line)")
          (family, kind) = (words[2], words[3])
          #expect(["counter", "gauge", "histogram"].contains(kind) && seen.insert(family).inserted, "\(line)")
        } else {
          let match = try #require(try sample.wholeMatch(in: line), "not of the format: '\(line)'")
          let name = String(match.1)
          let names = kind == "histogram" ? ["_bucket", "_sum", "_count"].map { family + $0 } : [family]
          #expect(names.contains(name), "'\(line)' stands below \(family)")
          var (labels, rest) = ([String: String](), match.2 ?? "")
          while !rest.isEmpty {
            let pair = try #require(try label.prefixMatch(in: rest), "labels: '\(line)'")
            labels[String(pair.1)] = String(pair.2)
            rest = rest[pair.range.upperBound...]
          }
          let value = try #require(Double(String(match.3)), "'\(line)'")
          #expect(kind != "counter" || value >= 0, "\(line)")
          #expect(samples.updateValue(value, forKey: Sample(name: name, labels: labels)) == nil, "twice: \(line)")
        }
      }
      return samples
    }

    /// Buckets count upwards, to all of them.
    private func expectWholeHistograms(_ samples: [Sample: Double]) {
      var histograms: [Sample: [(bound: Double, count: Double)]] = [:]
      for (var sample, count) in samples where sample.name.hasSuffix("_bucket") {
        let bound = sample.labels.removeValue(forKey: "le") ?? ""
        histograms[sample, default: []].append((bound == "+Inf" ? .infinity : Double(bound) ?? .nan, count))
      }
      #expect(!histograms.isEmpty)
      for (sample, buckets) in histograms {
        let counts = buckets.sorted { $0.bound < $1.bound }.map(\.count)
        let all = samples[Sample(name: sample.name.dropLast(6) + "count", labels: sample.labels)]
        #expect(
          counts == counts.sorted() && counts.last == all, "\(sample): \(counts), in all \(String(describing: all))")
        #expect(buckets.contains { $0.bound == .infinity } && !buckets.contains { $0.bound.isNaN }, "\(sample)")
      }
    }

    @Test(.timeLimit(.minutes(10)))
    func `metrics are of the format, and say what the host and the certificate say`() async throws {
      try await Systemd.waitUntilReady()
      let api = try API()
      let job = try await api.run("sleep", ["600"]).id
      try await api.running(job)
      let samples = try await scrape()
      func value(_ name: String, _ labels: [String: String] = [:]) -> Double? {
        samples[Sample(name: "joblet_" + name, labels: labels)]
      }
      #expect(value("exec_up") == 1 && value("persist_up") == 1)
      #expect(value("api_backend_up", ["backend": "exec"]) == 1)
      #expect(value("node_cpus") == Double(try await onlineCPUs()))
      #expect(
        value("node_memory_bytes") == Double(try await totalMemory()))
      #expect(
        value("certificate_expiry_timestamp_seconds", ["certificate": "server"]) == Double(try await serverEnds()))
      expectWholeHistograms(samples)
      try await eventually("as many jobs run as the API says") {
        let jobs = try await listed(api, "RUNNING")
        return try await scrape()[Sample(name: "joblet_jobs", labels: ["status": "RUNNING"])] == Double(jobs)
          && jobs > 0
      }
      #expect(try await api.call("POST", "/v1/jobs/\(job)/stop", body: #"{"grace":"0s"}"#).status == 202)
      _ = try await api.ended(job)
    }

    @Test(.timeLimit(.minutes(10)))
    func `requests are counted by route, method, role and status: each call once`() async throws {
      try await Systemd.waitUntilReady()
      let reader = try API(role: "reader")
      func key(_ route: String, _ method: String, _ status: Int) -> Sample {
        Sample(
          name: "joblet_api_requests_total",
          labels: ["route": route, "method": method, "role": "reader", "status": "\(status)"])
      }
      let missing = "01900000-0000-7000-8000-000000000001"
      let calls: [(count: Int, method: String, path: String, key: Sample)] = [
        (3, "GET", "/v1/jobs?limit=1", key("/v1/jobs", "GET", 200)),
        (2, "GET", "/v1/jobs/\(missing)", key("/v1/jobs/{id}", "GET", 404)),
        (2, "POST", "/v1/jobs/\(missing)/stop", key("/v1/jobs/{id}/stop", "POST", 403)),
        (1, "GET", "/v1/jobs?colour=red", key("/v1/jobs", "GET", 422)),
        // What the client makes up is no label.
        (2, "BREW", "/v1/coffee", key("none", "other", 404)),
      ]
      let before = try await scrape()
      for call in calls {
        for _ in 0..<call.count {
          let reply = try await reader.call(call.method, call.path)
          #expect("\(reply.status)" == call.key.labels["status"], "\(call): \(reply)")
        }
      }
      func grown(_ after: [Sample: Double]) -> [Sample: Double] {
        after.filter { $0.key.name == "joblet_api_requests_total" && $0.key.labels["role"] == "reader" }
          .reduce(into: [:]) { grown, sample in
            let growth = sample.value - (before[sample.key] ?? 0)
            if growth != 0 { grown[sample.key] = growth }
          }
      }
      let expected = Dictionary(uniqueKeysWithValues: calls.map { ($0.key, Double($0.count)) })
      // A call is counted when its answer has left, which may be a moment after it was read.
      try await eventually("every call is counted") {
        let growth = grown(try await scrape())
        return expected.allSatisfy { growth[$0.key] ?? 0 >= $0.value }
      }
      let after = try await scrape()
      #expect(grown(after) == expected)
      let timed = Sample(name: "joblet_api_request_duration_seconds_count", labels: ["route": "/v1/jobs/{id}/stop"])
      #expect((after[timed] ?? 0) - (before[timed] ?? 0) == 2)
    }
  }
}
