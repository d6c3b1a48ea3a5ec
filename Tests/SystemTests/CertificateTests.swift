import Foundation
import Testing

extension SystemTests {
  /// What becomes of a node whose certificates are about to end, with nobody there.
  @Suite struct Certificates {
    private static let renewal = "joblet-certs-renew.service"
    private static let directory = "/opt/joblet/certs"
    /// The serial number of a certificate made here, which nobody else's has.
    private static let aged = "1267"

    /// The serial number of the certificate the gateway shows who connects now.
    private func served() async throws -> String {
      let output = try await Shell.run(
        "openssl s_client -connect localhost:50051 </dev/null 2>/dev/null | openssl x509 -noout -serial")
      return output.lines.first?.replacing("serial=", with: "") ?? "none: \(output.errors)"
    }

    /// Gives the gateway a certificate with five days left, for the same names and key, by the node's own CA.
    private func age() async throws {
      try await Shell.must(
        """
        cd \(Self.directory) && work=$(mktemp -d) &&
        names=$(openssl x509 -in server.crt -noout -ext subjectAltName | tail -n 1 | sed 's/IP Address:/IP:/g; s/ //g') &&
        printf '%s\\n' basicConstraints=critical,CA:FALSE keyUsage=critical,digitalSignature extendedKeyUsage=serverAuth \
          "subjectAltName=$names" > $work/extensions &&
        openssl req -new -key server.key -subj /O=Joblet/CN=aged -out $work/request 2>&1 &&
        openssl x509 -req -in $work/request -CA ca.crt -CAkey ca.key -set_serial 0x\(Self.aged) -days 5 \
          -extfile $work/extensions -out $work/server.crt 2>&1 &&
        cat $work/server.crt > server.crt && rm -r $work && systemctl reload joblet-api.service
        """)
      try await eventually("the gateway shows the aged one") { try await served() == Self.aged }
    }

    /// Starts the renewal as its timer does, and waits for its end.
    /// - Returns: what it said.
    private func renew() async throws -> String {
      let cursor = try await Systemd.cursor()
      try await Shell.must("systemctl start \(Self.renewal)")
      #expect(try await Systemd.property(Self.renewal, "Result") == "success")
      try await Shell.must("journalctl --sync")
      // The configuration is the last it looks at.
      return try await eventually("it has said what it did") { () -> String? in
        let text = try await Systemd.journal(Self.renewal, after: cursor)
        return text.contains("kept \(Installed.config)") ? text : nil
      }
    }

    private func reloads(after cursor: String) async throws -> Int {
      try await Systemd.journal("joblet-api.service", after: cursor).components(separatedBy: "certificates reloaded")
        .count - 1
    }

    @Test(.timeLimit(.minutes(10)))
    func `what is about to end is renewed, and no connection notices`() async throws {
      try await Systemd.waitUntilReady()
      #expect(try await Systemd.isActive("joblet-certs.timer"))
      #expect(try await Shell.must("systemctl is-enabled joblet-certs.timer") == "enabled")
      #expect(try await Systemd.property("joblet-certs.timer", "Unit") == Self.renewal)
      do {
        try await renewWhileFollowed()
      } catch {
        // Whatever went wrong, the others' gateway is to have a certificate that lasts.
        _ = try await Shell.run("systemctl start \(Self.renewal)")
        throw error
      }
      // With nothing to renew nothing is reloaded.
      let quiet = try await Systemd.cursor()
      let again = try await renew()
      #expect(!again.contains("made ") && again.contains("kept \(Self.directory)/server.crt"), "\(again)")
      #expect(try await reloads(after: quiet) == 0)
    }

    private func renewWhileFollowed() async throws {
      let api = try API()
      let pid = try await Systemd.mainPID("joblet-api.service")
      let begun = try await Systemd.cursor()
      try await age()
      try await expectWarning(api, since: begun)
      let job = try await api.sh("i=0; while :; do i=$((i+1)); echo tick $i; sleep 0.2; done")
      let follower = try api.follow(job.id)
      try await follower.sees("tick 1")

      try await withoutKey()

      let cursor = try await Systemd.cursor()
      let said = try await renew()
      #expect(said.contains("made \(Self.directory)/server.crt: it was to end on"), "\(said)")
      #expect(said.contains("kept \(Self.directory)/admin.crt"), "\(said)")
      try await eventually("the gateway shows the new one") { try await served() != Self.aged }
      try await eventually("it has said so") { try await reloads(after: cursor) == 1 }
      #expect(!FileManager.default.fileExists(atPath: "/run/joblet-certs/changed"))
      #expect(try await Shell.must("cd \(Self.directory) && stat -c '%U %a' server.key") == "joblet-api 600")
      #expect(try await api.get("/v1/jobs?limit=1").status == 200)

      // Who was connected before goes on, and loses nothing.
      let seen = try follower.logLines().count
      try await eventually("its lines go on") { try follower.logLines().count > seen + 2 }
      #expect(try await api.call("POST", "/v1/jobs/\(job.id)/stop", body: #"{"grace":"0s"}"#).status == 202)
      let events = try await follower.finished()
      #expect(events.last?.name == "end" && !events.contains { $0.name == "reconnect" }, "\(events.suffix(3))")
      let lines = try follower.logLines()
      #expect(lines.map(\.line) == lines.indices.map { "tick \($0 + 1)" })
      #expect(try await Systemd.mainPID("joblet-api.service") == pid)
    }

    /// A certificate with five days left is told of where people look.
    private func expectWarning(_ api: API, since cursor: String) async throws {
      struct Node: Decodable {
        struct Certificate: Decodable {
          var name: String
          var state: String
          var daysLeft: Int
        }
        var certificates: [Certificate]
      }
      try await eventually("the node says it") {
        let node = try await api.get("/v1/node").decode(Node.self)
        return node.certificates.contains { $0.name == "server" && $0.state == "expiring" && $0.daysLeft <= 5 }
      }
      try await eventually("the journal says it") {
        let journal = try await Systemd.journal("joblet-api.service", after: cursor)
        return journal.contains("the server certificate") && journal.contains(Self.renewal.dropLast(8))
      }
    }

    /// A node of a fleet, which has no key to sign with: it says so, and leaves everything as it is.
    private func withoutKey() async throws {
      let key = "\(Self.directory)/ca.key"
      try await Shell.must("mv \(key) /opt/joblet/ca.key.away")
      do {
        let cursor = try await Systemd.cursor()
        let said = try await renew()
        #expect(said.contains("\(key) is not on this node"), "\(said)")
        try await eventually("it warns") {
          try await Shell.must(
            "journalctl --no-pager -o cat -p warning -u \(Self.renewal) --since='\(cursor)'"
          ).contains("\(Self.directory)/server.crt is to be made anew")
        }
        #expect(try await served() == Self.aged)
        #expect(try await reloads(after: cursor) == 0)
      } catch {
        try await Shell.must("mv /opt/joblet/ca.key.away \(key)")
        throw error
      }
      try await Shell.must("mv /opt/joblet/ca.key.away \(key)")
    }
  }
}
