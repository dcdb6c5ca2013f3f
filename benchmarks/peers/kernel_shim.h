// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_BENCHMARKS_PEERS_KERNEL_SHIM_H_
#define DMAMAP_BENCHMARKS_PEERS_KERNEL_SHIM_H_

// The little of a kernel that four files of Linux 6.12 need to compile,
// unchanged, as a userspace library: iova.c, rbtree.c, vhost's iotlb.c and
// VDUSE's iova_domain.c. C11 with GNU extensions. Every <linux/NAME.h> that is
// not taken from the kernel package is generated as one line that includes this
// file (see BUILD.bazel), so all substitutions stand here.
//
// Where a substitution changes what an operation costs, it is on the fast side,
// so that no comparison is won by the shim:
//   interrupts  masking them costs nothing here (a kernel pays for it);
//   per-CPU     data are found by one thread-local offset, as by a kernel's
//               segment register;
//   spinlock    test-and-test-and-set: uncontended, one locked instruction and
//               one store, like the kernel's queued lock;
//   slab        mimalloc where DMAMAP_SHIM_MIMALLOC is defined, else malloc;
//               cache-line alignment is kept where the kernel asks for it;
//   pages       a page is its address; all memory is mapped.
//
// "CPUs" are the threads that called dmamap_shim_enter_cpu, each with a number
// of its own.

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// --- Types and annotations -------------------------------------------------

typedef int8_t s8;
typedef int16_t s16;
typedef int32_t s32;
typedef int64_t s64;
typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef uint8_t __u8;
typedef uint16_t __u16;
typedef uint32_t __u32;
typedef uint64_t __u64;
typedef u64 dma_addr_t;
typedef u64 phys_addr_t;
typedef unsigned int gfp_t;
typedef int vm_fault_t;

#define __exit
#define __force
#define __init
#define __percpu
#define __rcu
#define __user
#ifndef __always_inline
#define __always_inline inline __attribute__((always_inline))
#endif
#define noinline __attribute__((noinline))
#undef likely
#undef unlikely
#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)
#ifndef static_assert
#define static_assert _Static_assert
#endif

#define CONFIG_IOMMU_IOVA 1
#define IS_REACHABLE(option) (option)
#define EXPORT_SYMBOL(symbol)
#define EXPORT_SYMBOL_GPL(symbol)
#define MODULE_AUTHOR(text)
#define MODULE_DESCRIPTION(text)
#define MODULE_LICENSE(text)
#define MODULE_PARM_DESC(name, text)
#define MODULE_VERSION(text)
#define module_param(name, type, mode)
struct module;
#define THIS_MODULE ((struct module *)NULL)
#define ENOTSUPP 524

// --- Diagnostics -----------------------------------------------------------

#define pr_err(...) fprintf(stderr, __VA_ARGS__)
// A warning of the kernel's code means that the benchmark misused it.
#define WARN_ON(condition)                                            \
  ({                                                                  \
    const bool shim_warned = !!(condition);                           \
    if (unlikely(shim_warned))                                        \
      fprintf(stderr, "kernel warning: %s:%d\n", __FILE__, __LINE__); \
    unlikely(shim_warned);                                            \
  })
#define BUG_ON(condition)                                         \
  do {                                                            \
    if (unlikely(condition)) {                                    \
      fprintf(stderr, "kernel bug: %s:%d\n", __FILE__, __LINE__); \
      abort();                                                    \
    }                                                             \
  } while (0)
#define ERR_PTR(error) ((void *)(long)(error))
#define PTR_ERR(pointer) ((long)(pointer))
#define IS_ERR(pointer) unlikely((unsigned long)(pointer) > -4096UL)

// --- Arithmetic ------------------------------------------------------------

#define container_of(pointer, type, member) \
  ((type *)(void *)((char *)(pointer)-offsetof(type, member)))
#define min(a, b)                                      \
  ({                                                   \
    __typeof__(a) shim_min_a = (a);                    \
    __typeof__(b) shim_min_b = (b);                    \
    shim_min_a < shim_min_b ? shim_min_a : shim_min_b; \
  })
#define max(a, b)                                      \
  ({                                                   \
    __typeof__(a) shim_max_a = (a);                    \
    __typeof__(b) shim_max_b = (b);                    \
    shim_max_a > shim_max_b ? shim_max_a : shim_max_b; \
  })
#define min_t(type, a, b) min((type)(a), (type)(b))
#define max_t(type, a, b) max((type)(a), (type)(b))
#define swap(a, b)                \
  do {                            \
    __typeof__(a) shim_was = (a); \
    (a) = (b);                    \
    (b) = shim_was;               \
  } while (0)
#define ALIGN_DOWN(x, a) ((x) & ~((__typeof__(x))(a)-1))
#define ALIGN(x, a) ALIGN_DOWN((x) + (__typeof__(x))(a)-1, a)

static inline bool is_power_of_2(unsigned long n) {
  return __builtin_popcountl(n) == 1;
}
static inline unsigned long __ffs(unsigned long n) {
  return (unsigned long)__builtin_ctzl(n);
}
static inline int fls_long(unsigned long n) {
  return n == 0 ? 0 : 64 - __builtin_clzl(n);
}
static inline unsigned long roundup_pow_of_two(unsigned long n) {
  return 1UL << fls_long(n - 1);
}
static inline unsigned int order_base_2(unsigned long n) {
  return n <= 1 ? 0 : (unsigned int)fls_long(n - 1);
}

// --- Memory order ----------------------------------------------------------

#define READ_ONCE(x) (*(const volatile __typeof__(x) *)&(x))
#define WRITE_ONCE(x, value) (*(volatile __typeof__(x) *)&(x) = (value))
#define barrier() __asm__ __volatile__("" ::: "memory")
#define smp_store_release(p, value) \
  __atomic_store_n((p), (value), __ATOMIC_RELEASE)
#define smp_load_acquire(p) __atomic_load_n((p), __ATOMIC_ACQUIRE)
#define rcu_assign_pointer(p, value) smp_store_release(&(p), (value))
#define rcu_dereference_raw(p) READ_ONCE(p)
#define cmpxchg(p, expected, desired)                                \
  ({                                                                 \
    __typeof__(*(p)) shim_seen = (expected);                         \
    __atomic_compare_exchange_n((p), &shim_seen, (desired), false,   \
                                __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST); \
    shim_seen;                                                       \
  })
static __always_inline void cpu_relax(void) {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ __volatile__("yield");
#endif
}

// --- Locks -----------------------------------------------------------------

typedef struct {
  unsigned char taken;
} spinlock_t;

static __always_inline void spin_lock_init(spinlock_t *lock) {
  lock->taken = 0;
}
static __always_inline void spin_lock(spinlock_t *lock) {
  while (unlikely(__atomic_exchange_n(&lock->taken, 1, __ATOMIC_ACQUIRE))) {
    do {
      cpu_relax();
    } while (__atomic_load_n(&lock->taken, __ATOMIC_RELAXED));
  }
}
static __always_inline void spin_unlock(spinlock_t *lock) {
  __atomic_store_n(&lock->taken, 0, __ATOMIC_RELEASE);
}
#define spin_lock_irqsave(lock, flags) ((flags) = 0, spin_lock(lock))
#define spin_unlock_irqrestore(lock, flags) ((void)(flags), spin_unlock(lock))
#define assert_spin_locked(lock) \
  BUG_ON(!__atomic_load_n(&(lock)->taken, __ATOMIC_RELAXED))

// Bit 0: a writer. Above it: the number of readers, each of which counts 2.
// Uncontended, a reader pays one locked instruction each way, as in a kernel.
typedef struct {
  unsigned int word;
} rwlock_t;

#define rwlock_init(lock) ((void)((lock)->word = 0))
static __always_inline void read_lock(rwlock_t *lock) {
  while (unlikely(__atomic_add_fetch(&lock->word, 2, __ATOMIC_ACQUIRE) & 1)) {
    __atomic_sub_fetch(&lock->word, 2, __ATOMIC_RELAXED);
    while (__atomic_load_n(&lock->word, __ATOMIC_RELAXED) & 1) cpu_relax();
  }
}
static __always_inline void read_unlock(rwlock_t *lock) {
  __atomic_sub_fetch(&lock->word, 2, __ATOMIC_RELEASE);
}
static __always_inline void write_lock(rwlock_t *lock) {
  unsigned int idle = 0;
  while (!__atomic_compare_exchange_n(&lock->word, &idle, 1, false,
                                      __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)) {
    idle = 0;
    cpu_relax();
  }
}
static __always_inline void write_unlock(rwlock_t *lock) {
  __atomic_sub_fetch(&lock->word, 1, __ATOMIC_RELEASE);
}

struct mutex {
  pthread_mutex_t native;
};
#define DEFINE_MUTEX(name) struct mutex name = {PTHREAD_MUTEX_INITIALIZER}
#define mutex_lock(mutex) pthread_mutex_lock(&(mutex)->native)
#define mutex_unlock(mutex) pthread_mutex_unlock(&(mutex)->native)

// --- CPUs ------------------------------------------------------------------

// One number is for the thread that runs delayed work.
#define DMAMAP_SHIM_CPUS 16
// Bytes from one CPU's copy of a per-CPU object to the next. Not a power of
// two, so that the copies fall into different sets of a cache.
#define DMAMAP_SHIM_CPU_STRIDE 4288UL

extern __thread unsigned long dmamap_shim_cpu_offset;
extern unsigned int dmamap_shim_online_cpus;

// The calling thread becomes CPU `cpu`, below DMAMAP_SHIM_CPUS - 1.
void dmamap_shim_enter_cpu(unsigned int cpu);
// How many CPUs a walk over the online ones visits; never goes down.
void dmamap_shim_need_cpus(unsigned int count);
void *dmamap_shim_alloc_percpu(size_t size);

#define __alloc_percpu(size, align) dmamap_shim_alloc_percpu(size)
#define free_percpu(pointer) free(pointer)
#define raw_cpu_ptr(pointer) \
  ((__typeof__(pointer))(void *)((char *)(pointer) + dmamap_shim_cpu_offset))
#define per_cpu_ptr(pointer, cpu)                    \
  ((__typeof__(pointer))(void *)((char *)(pointer) + \
                                 (cpu)*DMAMAP_SHIM_CPU_STRIDE))
#define for_each_possible_cpu(cpu) \
  for ((cpu) = 0; (cpu) < DMAMAP_SHIM_CPUS; (cpu)++)
#define num_online_cpus() dmamap_shim_online_cpus
#define for_each_online_cpu(cpu) \
  for ((cpu) = 0; (cpu) < num_online_cpus(); (cpu)++)
#define cache_line_size() 64

// No CPU ever goes away.
struct hlist_node {
  struct hlist_node *next;
};
#define hlist_entry_safe(pointer, type, member) \
  ((pointer) ? container_of(pointer, type, member) : NULL)
#define CPUHP_IOMMU_IOVA_DEAD 0
#define cpuhp_setup_state_multi(state, name, up, down) ((void)(down), 0)
#define cpuhp_remove_multi_state(state) ((void)(state))
#define cpuhp_state_add_instance_nocalls(state, node) (0)
#define cpuhp_state_remove_instance_nocalls(state, node) ((void)(node))

// --- Allocation ------------------------------------------------------------

#ifdef DMAMAP_SHIM_MIMALLOC
#include <mimalloc.h>
#define shim_malloc(size) mi_malloc(size)
#define shim_zalloc(size) mi_zalloc(size)
#define shim_lines(size) mi_malloc_aligned((size), 64)
#define shim_zeroed_lines(size) mi_zalloc_aligned((size), 64)
#define shim_free(pointer) mi_free(pointer)
#else
#define shim_malloc(size) malloc(size)
#define shim_zalloc(size) calloc(1, (size))
#define shim_lines(size) aligned_alloc(64, ALIGN((size), 64))
static inline void *shim_zeroed_lines(size_t size) {
  void *lines = shim_lines(size);
  return lines == NULL ? NULL : memset(lines, 0, size);
}
#define shim_free(pointer) free(pointer)
#endif

#define GFP_KERNEL 1u
#define GFP_ATOMIC 2u
#define __GFP_NOWARN 4u
#define __GFP_ZERO 8u
#define __GFP_NOFAIL 16u

#define kmalloc(size, flags) shim_malloc(size)
#define kzalloc(size, flags) shim_zalloc(size)
#define kcalloc(count, size, flags) shim_zalloc((count) * (size))
#define kfree(pointer) shim_free(pointer)
#define vzalloc(size) shim_zalloc(size)
#define vfree(pointer) shim_free(pointer)
#define kmemleak_transient_leak(pointer) ((void)(pointer))

#define SLAB_HWCACHE_ALIGN 1u
struct kmem_cache {
  size_t object_size;
};
static inline struct kmem_cache *kmem_cache_create(const char *name,
                                                   size_t size, size_t align,
                                                   unsigned int flags,
                                                   void *constructor) {
  struct kmem_cache *cache = (struct kmem_cache *)malloc(sizeof(*cache));
  (void)name, (void)align, (void)flags, (void)constructor;
  if (cache != NULL) cache->object_size = ALIGN(size, 64);
  return cache;
}
#define kmem_cache_destroy(cache) free(cache)
#define kmem_cache_alloc(cache, flags) shim_lines((cache)->object_size)
#define kmem_cache_zalloc(cache, flags) shim_zeroed_lines((cache)->object_size)
#define kmem_cache_free(cache, object) shim_free(object)

// --- Delayed work ----------------------------------------------------------

struct work_struct {
  void (*func)(struct work_struct *);
};
struct delayed_work {
  struct work_struct work;
  int pending;
  u64 due_ms;
  struct delayed_work *next;
};
#define msecs_to_jiffies(ms) (ms)
#define INIT_DELAYED_WORK(delayed, function) \
  (*(delayed) = (struct delayed_work){.work = {(function)}})
void dmamap_shim_queue_work(struct delayed_work *work, unsigned long delay_ms);
void cancel_delayed_work_sync(struct delayed_work *work);
// Work that waits already costs one locked instruction, as in a kernel.
static __always_inline bool schedule_delayed_work(struct delayed_work *work,
                                                  unsigned long delay_ms) {
  if (__atomic_exchange_n(&work->pending, 1, __ATOMIC_SEQ_CST)) return false;
  dmamap_shim_queue_work(work, delay_ms);
  return true;
}

// --- Lists -----------------------------------------------------------------

struct list_head {
  struct list_head *next;
  struct list_head *prev;
};
static inline void INIT_LIST_HEAD(struct list_head *list) {
  list->next = list->prev = list;
}
static inline void list_add_tail(struct list_head *entry,
                                 struct list_head *list) {
  entry->next = list;
  entry->prev = list->prev;
  list->prev->next = entry;
  list->prev = entry;
}
static inline void list_del(struct list_head *entry) {
  entry->prev->next = entry->next;
  entry->next->prev = entry->prev;
  // As a kernel does: a second removal faults on a null pointer's page.
  entry->next = entry->prev = NULL;
}
#define list_first_entry(list, type, member) \
  container_of((list)->next, type, member)

// --- Pages: a `struct page *` is the page's address --------------------------

#define PAGE_SHIFT 12
#define PAGE_SIZE 4096UL
#define PAGE_MASK (~(PAGE_SIZE - 1))
#define PAGE_ALIGN(x) ALIGN((x), PAGE_SIZE)
#define PFN_DOWN(x) ((unsigned long)((x) >> PAGE_SHIFT))
#define offset_in_page(p) ((unsigned long)(p) & ~PAGE_MASK)

struct page {
  char bytes[4096];
};
static inline struct page *alloc_page(gfp_t flags) {
  void *page = aligned_alloc(PAGE_SIZE, PAGE_SIZE);
  if (page != NULL && (flags & __GFP_ZERO)) memset(page, 0, PAGE_SIZE);
  return (struct page *)page;
}
#define __free_page(page) free(page)
#define get_page(page) ((void)(page))
#define put_page(page) ((void)(page))
#define page_address(page) ((void *)(page))
#define pfn_to_page(pfn) ((struct page *)((unsigned long)(pfn) << PAGE_SHIFT))
#define page_to_phys(page) ((phys_addr_t)(unsigned long)(page))
#define virt_to_phys(pointer) ((phys_addr_t)(unsigned long)(pointer))
#define kmap_local_page(page) page_address(page)
#define kunmap_local(address) ((void)(address))
#define memcpy_from_page(to, page, offset, length) \
  memcpy((to), (char *)page_address(page) + (offset), (length))
#define memcpy_to_page(page, offset, from, length) \
  memcpy((char *)page_address(page) + (offset), (from), (length))

enum dma_data_direction {
  DMA_BIDIRECTIONAL = 0,
  DMA_TO_DEVICE = 1,
  DMA_FROM_DEVICE = 2,
};
#define DMA_MAPPING_ERROR (~(dma_addr_t)0)
#define DMA_ATTR_SKIP_CPU_SYNC (1UL << 5)

// --- Files: VDUSE ties the life of a domain to one ---------------------------

struct file;
struct inode;
struct vm_area_struct;
struct file_operations {
  struct module *owner;
  int (*mmap)(struct file *, struct vm_area_struct *);
  int (*release)(struct inode *, struct file *);
};
struct file {
  void *private_data;
  const struct file_operations *operations;
  unsigned int references;
};
#ifndef O_RDWR
#define O_RDWR 2
#endif
static inline struct file *anon_inode_getfile(
    const char *name, const struct file_operations *operations,
    void *private_data, int flags) {
  struct file *file = (struct file *)malloc(sizeof(*file));
  (void)name, (void)flags;
  if (file == NULL) return (struct file *)ERR_PTR(-ENOMEM);
  *file = (struct file){private_data, operations, 1};
  return file;
}
static inline struct file *get_file(struct file *file) {
  __atomic_add_fetch(&file->references, 1, __ATOMIC_RELAXED);
  return file;
}
static inline void fput(struct file *file) {
  if (__atomic_sub_fetch(&file->references, 1, __ATOMIC_ACQ_REL) != 0) return;
  file->operations->release(NULL, file);
  free(file);
}
struct vdpa_map_file {
  struct file *file;
  u64 offset;
};

// Never called here: nobody maps a domain into another process.
struct vm_fault {
  struct vm_area_struct *vma;
  unsigned long pgoff;
  struct page *page;
};
struct vm_operations_struct {
  vm_fault_t (*fault)(struct vm_fault *);
};
struct vm_area_struct {
  void *vm_private_data;
  const struct vm_operations_struct *vm_ops;
  unsigned long vm_flags;
};
#define VM_FAULT_SIGBUS 2
#define VM_DONTDUMP 1UL
#define VM_DONTEXPAND 2UL
#define vm_flags_set(area, flags) ((area)->vm_flags |= (flags))

#endif  // DMAMAP_BENCHMARKS_PEERS_KERNEL_SHIM_H_
