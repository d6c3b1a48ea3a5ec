import Foundation
import Testing

extension SystemTests {
  /// Profiles of system calls, what ends a job, and the commands that say what a job gets and whether the host can give it.
  @Suite struct FiltersSuite {
    #if arch(x86_64)
      private static let reboot = 169
    #else
      private static let reboot = 142
    #endif

    @Test(.timeLimit(.minutes(10)))
    func `a job runs under the profile it asks for, and its record says which`() async throws {
      let api = try API()
      let script = "perl -e 'print socket(S, 2, 1, 0) ? 1 : 0'"
      for (profile, opens) in [("default", "1"), ("strict", "0")] {
        let result = try await api.finish(script, fields: ["seccomp": profile])
        #expect(result.stdout == opens, "\(result)")
        #expect(try await api.get("/v1/jobs/\(result.job.id)").text.contains(#""seccomp":"\#(profile)""#))
      }
      let plain = try await api.finish("true")
      #expect(try await api.get("/v1/jobs/\(plain.job.id)").text.contains(#""seccomp":"default""#))
    }

    @Test(.timeLimit(.minutes(10)))
    func `a profile that allows more than the node's is refused`() async throws {
      let reply = try await API().call("POST", "/v1/jobs", body: #"{"command":"true","seccomp":"compat"}"#)
      #expect(reply.status == 422 && reply.text.contains("allows more"), "\(reply)")
      let asked = try await Shell.run("rnx job run --seccomp compat true")
      #expect(asked.status != 0 && asked.errors.contains("strict, default"), "\(asked)")
    }

    /// From a process that the command left behind, too: the whole job ends.
    @Test(.timeLimit(.minutes(10)), arguments: ["exec perl -e", "sleep 4712 & setsid perl -e"])
    func `a call that no job may make ends the job, and rnx says which it was`(start: String) async throws {
      let api = try API()
      let job = try await api.sh("\(start) 'syscall(\(Self.reboot),0,0,0,0); print qq(came back\\n)'; wait; sleep 60")
      let ended = try await api.ended(job.id)
      #expect(ended.status == "FAILED" && ended.reason == "seccomp_violation" && ended.signal == 9, "\(ended)")
      #expect(try await api.text(job.id).isEmpty)
      let shown = try await Shell.must("rnx job status \(job.id)")
      #expect(shown.contains("reboot"), "\(shown)")
      #expect(try await Shell.run("pgrep -fx 'sleep 4712'").status == 1)
    }

    @Test(.timeLimit(.minutes(10)))
    func `plan prints the steps of a job and no secret`() async throws {
      let spec = #"{"command":"sh","args":["-c","id"],"secret_env":{"KEY":"hush-hush"},"seccomp":"strict"}"#
      let text = try await Shell.must("echo '\(spec)' | \(Installed.exec) plan -")
      #expect(text.contains("pivot_root(2)") && text.contains("KEY=***") && !text.contains("hush"), "\(text)")
      let json = try await Shell.must("echo '\(spec)' | \(Installed.exec) plan --json -")
      let read = try JSONSerialization.jsonObject(with: Data(json.utf8)) as? [String: Any]
      #expect((read?["steps"] as? [Any])?.isEmpty == false)
      let wrong = try await Shell.run("echo '{\"command\":\"a\",\"comand\":1}' | \(Installed.exec) plan -")
      #expect(wrong.status != 0 && wrong.errors.contains("comand: unknown field"), "\(wrong)")
    }

    @Test(.timeLimit(.minutes(10)))
    func `the doctor finds this host well, and a required thing that is missing`() async throws {
      let well = try await Shell.run("\(Installed.exec) doctor")
      #expect(well.status == 0 && well.text.contains("can run jobs as configured"), "\(well)")
      let json = try await Shell.must("\(Installed.exec) doctor --json")
      #expect(json.contains(#""status" : "ok""#) && !json.contains(#""status" : "failed""#), "\(json)")
      let ill = try await Shell.run("\(Installed.exec) doctor --init /no/such/program")
      #expect(ill.status == 1 && ill.text.contains("mend: run contrib/install"), "\(ill)")
    }
  }
}
