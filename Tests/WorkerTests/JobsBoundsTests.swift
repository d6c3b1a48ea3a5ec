import Testing
import Worker

@Suite struct JobsBoundsTests {
  /// In MiB.
  @Test(arguments: [(128, 64), (512, 256), (2000, 1744), (8192, 7372), (65_536, 63_488), (1 << 20, (1 << 20) - 2048)])
  func aReserveOfMemoryStaysTheHosts(total: Int64, jobs: Int64) {
    let bounds = JobsBounds(total: total << 20 + 4095, pidMax: 4_194_304, threadsMax: 30_001)
    #expect(bounds.memory == jobs << 20)
    #expect(bounds.processes == 15_000)
  }

  @Test func thereIsAlwaysSomething() {
    #expect(JobsBounds(total: 0, pidMax: 0, threadsMax: 0) == JobsBounds(memory: 1 << 20, processes: 1))
  }

  @Test func thisHostHasBounds() throws {
    let bounds = try JobsBounds.host()
    #expect(bounds.memory >= 32 << 20 && bounds.processes >= 100)
  }
}
