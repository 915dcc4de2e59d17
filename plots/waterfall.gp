# From one step to another, one bar per part. Blocks: whole steps, what is slower, what is faster, numbers behind the bars.
load substr(TEMPLATE, 1, strlen(TEMPLATE)-strlen('waterfall.gp')) . 'stacked.gp'
set xrange [XLOW:XHIGH]
set xlabel (XLOW > 0 ? sprintf('Time of a traced step (ms), from %g', XLOW) : 'Time of a traced step (ms)') textcolor rgb INK
plot for [i=1:NPARTS] DATA index i-1 using 1:2:3:4:5:6 with boxxyerror linecolor rgb KEYCOLOUR[i] notitle, \
     DATA index NPARTS using 1:2:3 with labels left offset 0.4,0 textcolor rgb INK notitle
