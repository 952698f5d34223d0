import sys, time, traceback
sys.path.insert(0,'tests')
from native import shadow
from oracle.scenario import make
from oracle import variants, lanes
first, count = int(sys.argv[1]), int(sys.argv[2])
names = sys.argv[3].split(",") if len(sys.argv)>3 else ["cut-all"]
size = int(sys.argv[4]) if len(sys.argv)>4 else None
t=time.time(); bad=0
with lanes.standing_in(), shadow.shadowing():
    for seed in range(first, first+count):
        sc = make(seed, size=size)
        try:
            for n in names:
                variants._Run(sc, variants.VARIANTS[n], __import__("random").Random(f"{n} {seed}")).result()
        except shadow.Different as e:
            bad+=1; print("seed",seed,str(e)[:3000]); 
            if bad>2: break
        except Exception as e:
            bad+=1; print("seed",seed); traceback.print_exc()
            if bad>2: break
        shadow._contents.clear(); shadow._loaded.clear()
print(shadow.SEEN, time.time()-t)
