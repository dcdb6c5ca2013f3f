// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#include "benchmarks/load_curve.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <deque>
#include <optional>
#include <random>
#include <span>
#include <vector>

#include "nicring/adaptive_napi.h"
#include "nicring/i8255x.h"
#include "nicring/interrupts.h"
#include "nicring/rx_ring.h"
#include "testing/sim_i8255x.h"

namespace dmamap::bench {
namespace {

constexpr std::uint32_t kRoom = 64;
constexpr std::uint32_t kBudget = 64;
constexpr int kBurst = 16;
constexpr std::uint64_t kBurstGap = 50;  // ns

// The times at which frames arrive, rising.
std::vector<std::uint64_t> ArrivalTimes(const LoadOptions& options) {
  const double gap =
      static_cast<double>(options.costs.driver + options.costs.stack) /
      options.share;
  std::mt19937_64 random(options.seed);
  // Not std::exponential_distribution: its numbers differ between libraries.
  const auto exponential = [&random](double mean) {
    const double uniform =
        (static_cast<double>(random() >> 11) + 1) / 9007199254740993.0;
    return -std::log(uniform) * mean;
  };
  std::vector<std::uint64_t> times;
  double at = 0;
  while (times.size() < options.frames) {
    switch (options.arrivals) {
      case Arrivals::kPoisson:
        at += exponential(gap);
        break;
      case Arrivals::kEven:
        at += gap;
        break;
      case Arrivals::kBursts:
        at += exponential(gap * kBurst);
        break;
    }
    const int n = options.arrivals == Arrivals::kBursts ? kBurst : 1;
    for (int i = 0; i < n; ++i) {
      times.push_back(static_cast<std::uint64_t>(at) +
                      static_cast<std::uint64_t>(i) * kBurstGap);
    }
  }
  std::sort(times.begin(), times.end());  // bursts may overlap
  times.resize(options.frames);
  return times;
}

// The CPU, the device and the driver.
class LoadRun {
 public:
  explicit LoadRun(const LoadOptions& options)
      : options_(options), times_(ArrivalTimes(options)) {}
  LoadRun(const LoadRun&) = delete;
  LoadRun& operator=(const LoadRun&) = delete;

  LoadResult Run() {
    if (!Prepare()) return result_;
    const bool interrupts = options_.mode == LoadMode::kInterrupt;
    if (options_.mode == LoadMode::kBusy) polls_ = napi_->Schedule();
    while (next_ < times_.size()) interrupts ? StepInterrupt() : StepNapi();
    Finish();
    return result_;
  }

 private:
  using Device = SimI8255x<IdentityPort>;
  using Ring = RxRing<I8255xFormat, IdentityMapper, FixedPool>;

  struct Clock {
    std::uint64_t Now() { return run->now_; }
    LoadRun* run;
  };
  // The device's mask register: an access costs.
  struct Line : I8255xInterrupts<Device, Ring> {
    explicit Line(LoadRun* r)
        : I8255xInterrupts<Device, Ring>(&*r->device_, &r->ring_), run(r) {}
    void Mask() {
      run->Spend(run->options_.costs.mask);
      I8255xInterrupts<Device, Ring>::Mask();
    }
    void Unmask() {
      run->Spend(run->options_.costs.mask);
      I8255xInterrupts<Device, Ring>::Unmask();
    }
    // What it costs in a handler is part of costs.interrupt.
    void Acknowledge() {
      if (run->in_poll_) run->Spend(run->options_.costs.acknowledge);
      I8255xInterrupts<Device, Ring>::Acknowledge();
    }
    LoadRun* run;
  };
  // Takes a frame from the ring; in kInterrupt into the queue.
  struct Sink {
    BufferFate Deliver(const RxFrame& frame) {
      std::uint64_t number = 0;
      std::memcpy(&number, frame.data, sizeof number);
      run->Spend(run->options_.costs.driver);
      if (run->options_.mode != LoadMode::kInterrupt) {
        run->Spend(run->options_.costs.stack);
        run->Deliver(number);
      } else if (run->queue_.size() < run->options_.backlog) {
        run->queue_.push_back(number);
      } else {
        ++run->result_.lost_queue;
      }
      return BufferFate::kReturn;
    }
    LoadRun* run;
  };

  bool Prepare();
  void StepInterrupt();
  void StepNapi();
  void Handle();
  void Finish();

  // The CPU works, while frames arrive.
  void Spend(std::uint64_t ns) {
    result_.busy += ns;
    AdvanceTo(now_ + ns);
  }
  void AdvanceTo(std::uint64_t time) {
    while (next_ < times_.size() && times_[next_] <= time) {
      std::array<std::byte, 60> frame{};
      const std::uint64_t number = next_++;
      std::memcpy(frame.data(), &number, sizeof number);
      device_->Inject(frame);
      device_->RunAll();
    }
    now_ = time;
  }
  void IdleUntilArrival() {
    if (next_ < times_.size()) AdvanceTo(std::max(now_, times_[next_]));
  }
  void Deliver(std::uint64_t number) {
    latencies_.push_back(now_ - times_[static_cast<std::size_t>(number)]);
  }
  std::size_t Pass(std::size_t budget) {
    ++result_.passes;
    Spend(options_.costs.pass);
    // Who has no Napi: a frame that comes from here on interrupts again.
    if (options_.mode == LoadMode::kInterrupt) line_->Acknowledge();
    return ring_.Poll(budget, sink_, *device_).done;
  }

  LoadOptions options_;
  std::vector<std::uint64_t> times_;
  std::size_t next_ = 0;  // the frame that arrives next
  std::uint64_t now_ = 0;
  LoadResult result_;
  std::vector<std::uint64_t> latencies_;
  std::deque<std::uint64_t> queue_;  // kInterrupt: frames for the stack
  std::uint64_t stack_left_ = 0;     // of the frame under way
  bool polls_ = false;               // somebody owns the poll
  bool in_poll_ = false;             // and is in a pass

  FixedPool pool_;
  IdentityMapper mapper_;
  std::optional<IdentityPort> port_;
  std::optional<Device> device_;
  Ring ring_;
  Sink sink_{this};
  Clock clock_{this};
  std::optional<Line> line_;
  std::optional<AdaptiveNapi<Line, Clock>> napi_;
};

bool LoadRun::Prepare() {
  if (!pool_.Init({options_.entries + kBudget, 16 + kRoom, 2}).ok()) {
    return false;
  }
  const PhysRange memory = *pool_.memory();
  const Iova base(memory.first().value());
  const Result<Range> window =
      Range::FromFirstLast(base, Iova(memory.last().value()));
  if (!window.ok()) return false;
  port_.emplace(*window);
  device_.emplace(&*port_, SimI8255xOptions{.ru_base = base});
  const std::uint64_t wait = options_.mode == LoadMode::kNapi ? 0
                             : options_.mode == LoadMode::kAdaptive
                                 ? options_.costs.interrupt
                                 : decltype(napi_)::value_type::kNever;
  line_.emplace(this);
  napi_.emplace(&*line_, &clock_, AdaptiveOptions{.interrupt_ns = wait});
  latencies_.reserve(times_.size());
  return ring_
             .Init(&mapper_, &pool_,
                   {.entries = options_.entries, .room = kRoom, .base = base})
             .ok() &&
         ring_.Start(*device_).ok();
}

// One thing that the CPU does: an interrupt's handler, or a part of the stack's
// work on one frame, until the next arrival at most.
void LoadRun::StepInterrupt() {
  if (device_->InterruptLine()) return Handle();
  if (stack_left_ == 0) {
    if (queue_.empty()) return IdleUntilArrival();
    stack_left_ = options_.costs.stack;
  }
  const std::uint64_t until = times_[next_] > now_ ? times_[next_] - now_ : 0;
  const std::uint64_t part = std::min(stack_left_, until);
  Spend(part);
  stack_left_ -= part;
  if (stack_left_ != 0) return;
  Deliver(queue_.front());
  queue_.pop_front();
}

void LoadRun::Handle() {
  ++result_.interrupts;
  Spend(options_.costs.interrupt);
  while (Pass(kBudget) == kBudget) {
  }
}

void LoadRun::StepNapi() {
  if (polls_) {
    in_poll_ = true;
    polls_ = napi_->Poll(
                 kBudget, [this](std::size_t n) { return Pass(n); },
                 [this] { return ring_.HasWork(); }) == PollOutcome::kAgain;
    in_poll_ = false;
  } else if (device_->InterruptLine()) {
    ++result_.interrupts;
    Spend(options_.costs.interrupt);
    polls_ = napi_->Schedule();
  } else {
    IdleUntilArrival();
  }
}

void LoadRun::Finish() {
  const SimI8255xCounters c = device_->counters();
  result_.elapsed = now_;
  result_.offered = c.injected;
  result_.delivered = latencies_.size();
  result_.lost_device = c.rx_resource_errors + c.rx_overrun_errors;
  const std::uint64_t in_ring = c.rx_good - ring_.statistics().rx_completions;
  result_.waiting = in_ring + queue_.size();
  result_.sound = ring_.CheckInvariants() && device_->CheckInvariants() &&
                  napi_->CheckInvariants() && c.bus_errors == 0 &&
                  c.rx_bad == 0 &&
                  result_.offered == result_.delivered + result_.lost_device +
                                         result_.lost_queue + result_.waiting +
                                         device_->waiting();
  if (latencies_.empty()) return;
  double sum = 0;
  for (const std::uint64_t latency : latencies_) {
    sum += static_cast<double>(latency);
  }
  result_.mean_latency = sum / static_cast<double>(latencies_.size());
  const auto p99 = latencies_.begin() +
                   static_cast<std::ptrdiff_t>(latencies_.size() * 99 / 100);
  std::nth_element(latencies_.begin(), p99, latencies_.end());
  result_.p99_latency = *p99;
  ring_.Shutdown(*device_);
}

double PerFrame(std::uint64_t ns, std::uint64_t frames) {
  return static_cast<double>(ns) /
         static_cast<double>(std::max<std::uint64_t>(frames, 1));
}

}  // namespace

double LoadResult::NsPerFrame() const { return PerFrame(elapsed, delivered); }
double LoadResult::CpuNsPerFrame() const { return PerFrame(busy, delivered); }

LoadResult RunLoad(const LoadOptions& options) {
  return LoadRun(options).Run();
}

}  // namespace dmamap::bench
