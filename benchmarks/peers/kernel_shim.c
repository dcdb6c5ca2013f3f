// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

// What of kernel_shim.h is not inline: per-CPU memory, and the one thread that
// runs delayed work when it is due.

#include "benchmarks/peers/kernel_shim.h"

#include <time.h>

__thread unsigned long dmamap_shim_cpu_offset;
unsigned int dmamap_shim_online_cpus = 1;

void dmamap_shim_enter_cpu(unsigned int cpu) {
  if (cpu >= DMAMAP_SHIM_CPUS - 1) {
    fprintf(stderr, "kernel shim: CPU %u of %d\n", cpu, DMAMAP_SHIM_CPUS - 1);
    abort();
  }
  dmamap_shim_cpu_offset = cpu * DMAMAP_SHIM_CPU_STRIDE;
}

void dmamap_shim_need_cpus(unsigned int count) {
  if (count > dmamap_shim_online_cpus) dmamap_shim_online_cpus = count;
}

void *dmamap_shim_alloc_percpu(size_t size) {
  const size_t bytes = DMAMAP_SHIM_CPUS * DMAMAP_SHIM_CPU_STRIDE;
  void *copies;
  if (size > DMAMAP_SHIM_CPU_STRIDE) return NULL;
  copies = aligned_alloc(64, bytes);  // the stride is a multiple of 64
  return copies == NULL ? NULL : memset(copies, 0, bytes);
}

// Guards all that follows.
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t finished = PTHREAD_COND_INITIALIZER;
static struct delayed_work *queue;    // waiting, in no order
static struct delayed_work *running;  // its function is being called
static bool started;

static u64 now_ms(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (u64)now.tv_sec * 1000 + (u64)now.tv_nsec / 1000000;
}

// Takes the first work that is due off the queue; NULL when there is none.
static struct delayed_work *take_due(u64 now) {
  for (struct delayed_work **at = &queue; *at != NULL; at = &(*at)->next) {
    struct delayed_work *work = *at;
    if (work->due_ms > now) continue;
    *at = work->next;
    return work;
  }
  return NULL;
}

static void *run_delayed_work(void *unused) {
  (void)unused;
  dmamap_shim_cpu_offset = (DMAMAP_SHIM_CPUS - 1) * DMAMAP_SHIM_CPU_STRIDE;
  for (;;) {
    const struct timespec tick = {0, 20 * 1000000};
    nanosleep(&tick, NULL);
    pthread_mutex_lock(&mutex);
    while ((running = take_due(now_ms())) != NULL) {
      // From here on the work may queue itself again.
      __atomic_store_n(&running->pending, 0, __ATOMIC_SEQ_CST);
      pthread_mutex_unlock(&mutex);
      running->work.func(&running->work);
      pthread_mutex_lock(&mutex);
      running = NULL;
      pthread_cond_broadcast(&finished);
    }
    pthread_mutex_unlock(&mutex);
  }
  return NULL;
}

void dmamap_shim_queue_work(struct delayed_work *work, unsigned long delay_ms) {
  pthread_mutex_lock(&mutex);
  if (!started) {
    pthread_t thread;
    started = pthread_create(&thread, NULL, run_delayed_work, NULL) == 0;
    if (started) pthread_detach(thread);
  }
  work->due_ms = now_ms() + delay_ms;
  work->next = queue;
  queue = work;
  pthread_mutex_unlock(&mutex);
}

// Afterwards the work neither waits nor runs.
void cancel_delayed_work_sync(struct delayed_work *work) {
  pthread_mutex_lock(&mutex);
  while (running == work) pthread_cond_wait(&finished, &mutex);
  for (struct delayed_work **at = &queue; *at != NULL; at = &(*at)->next) {
    if (*at != work) continue;
    *at = work->next;
    break;
  }
  work->pending = 0;
  pthread_mutex_unlock(&mutex);
}
